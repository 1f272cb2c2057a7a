"""The MQTT driver in trouble: refusals, silence, garbage, lost connections, and being stopped in the middle."""

from __future__ import annotations

import random
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from attrs import evolve

from actors.core.errors import NotStarted
from actors.mqtt import connection, thread
from actors.mqtt import socket as mqtt_socket
from actors.mqtt.events import Connected, Disconnected, SubscriptionRefused, TakenOver
from actors.mqtt.link import BrokerAddress, MqttLink
from actors.settings.load import MqttSettings
from tests.kit.scripted_broker import CONNACK, DISCONNECT, PUBACK, PUBLISH, PUBREL, SUBACK, packet, scripted_broker
from tests.kit.servers import free_port
from tests.mqtt.mqtt_desk import SETTINGS, running

BOTH = pytest.mark.parametrize("protocol", [5, 4])


def link_to(port: int, folder: Path, protocol: int = 5, settings: MqttSettings = SETTINGS) -> MqttLink:
    name = {5: "5", 4: "3.1.1"}[protocol]
    return MqttLink(evolve(settings, protocol=name), BrokerAddress("127.0.0.1", port), folder)


@pytest.mark.parametrize(
    ("protocol", "code", "reason"),
    [(5, 0x86, "Bad user name or password"), (5, 0x88, "Server unavailable"), (4, 5, "Not authorized"), (4, 2, None)],
)
async def test_refused_connection(tmp_path: Path, protocol: int, code: int, reason: str | None) -> None:
    async with scripted_broker(protocol=protocol) as broker:
        broker.accept(code=code)
        started = time.monotonic()
        async with running(link_to(broker.port, tmp_path, protocol)) as desk:
            await broker.connected()
            broker.accept(session_present=True)
            lost = await desk.disconnected()
            assert lost.epoch == 0
            if reason is not None:
                assert lost.reason == f"the broker refused us: {reason}"
            assert await desk.connected() == Connected(1, session_present=True)
        first, _ = thread.UNWANTED_RETRY_S
        assert time.monotonic() - started >= first, "it comes back later than after a lost connection"


async def test_server_disconnect(tmp_path: Path) -> None:
    async with scripted_broker() as broker, running(link_to(broker.port, tmp_path)) as desk:
        side = await broker.connected()
        await side.subscribed.wait()
        await side.disconnect(0x8B)
        assert await desk.disconnected() == Disconnected(1, "the broker disconnected us: Server shutting down")
        assert not desk.all(TakenOver)
        await desk.connected(2)


async def test_unreachable_broker_is_said_once(tmp_path: Path) -> None:
    async with running(link_to(free_port(), tmp_path)) as desk:
        assert await desk.disconnected() == Disconnected(0, "cannot connect: Connection refused")
        await trio.sleep(1)
        assert len(desk.events) == 1


async def test_silent_broker(tmp_path: Path) -> None:
    async with (
        scripted_broker() as broker,
        running(link_to(broker.port, tmp_path, settings=evolve(SETTINGS, keepalive_s=1))) as desk,
    ):
        side = await broker.connected()
        await side.subscribed.wait()
        await side.until(lambda: side.pings == 1)
        broker.answers = False
        assert await desk.disconnected() == Disconnected(1, "no answer from the broker for 1 s")
        assert not desk.all(SubscriptionRefused)


async def test_no_answer_to_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNACK_TIMEOUT_S", 0.3)
    async with scripted_broker() as broker:
        broker.connack = None
        async with running(link_to(broker.port, tmp_path)) as desk:
            assert (await desk.disconnected()).reason.startswith("no answer to CONNECT within 0.3 s")


async def test_pings_go_on_and_are_not_missed_while_held(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path, settings=evolve(SETTINGS, keepalive_s=1))
        async with running(link, acks=True) as desk:
            side = await broker.connected()
            await side.subscribed.wait()
            link.hold(True)
            await side.until(lambda: side.pings == 4)
            await side.publish(b"t/a", b"x", qos=1, packet_id=1)
            broker.answers = False  # nothing more comes: now it is missed
            link.hold(False)
            await desk.until(lambda: len(desk.messages) == 1)
            assert (await desk.disconnected()).reason == "no answer from the broker for 1 s"


async def test_a_broker_that_goes_away_while_held_is_noticed(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            side = await broker.connected()
            await side.subscribed.wait()
            link.hold(True)
            await side.stream.aclose()
            await desk.disconnected()
            side = await broker.connected()
            await desk.connected(2)  # CONNACK is read although we are held
            await side.publish(b"t/a", b"x", qos=1, packet_id=1)
            await trio.sleep(0.5)
            assert desk.messages == []
            link.hold(False)
            await desk.until(lambda: len(desk.messages) == 1)


async def test_an_answer_that_is_not_read_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held when it comes back, it reads as far as CONNACK: SUBACK lies behind that, however long it is held."""
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path, settings=evolve(SETTINGS, keepalive_s=1))
        async with running(link) as desk:
            side = await broker.connected()
            await side.subscribed.wait()
            link.hold(True)
            await side.stream.aclose()
            side = await broker.connected()
            await desk.connected(2)
            monkeypatch.setattr(connection, "CONNACK_TIMEOUT_S", 0.1)
            await side.until(lambda: side.pings == 2)
            assert len(desk.all(Disconnected)) == 1


GARBAGE = [
    b"\x00\x00",
    b"\xf0\x00",
    b"\x30\xff\xff\xff\xff\x01",
    packet(PUBLISH, b""),
    packet(PUBLISH, b"\x00\x09t", flags=2),
    packet(PUBLISH, b"\x00\x01t\x00", flags=2),
    packet(PUBLISH, b"\x00\x01t\x00\x01\x00", flags=6),
    packet(CONNACK, b""),
    packet(PUBACK, b"\x00"),
    packet(PUBREL, b""),
    packet(SUBACK, b"\x00\x01\x00\x07"),
]
GARBAGE_5 = [
    packet(PUBLISH, b"\x00\x01t\x00\x01\xff\xff\xff\xff\x01", flags=2),
    packet(PUBLISH, b"\x00\x01t\x00\x01\x7f", flags=2),
    packet(PUBLISH, b"\x00\x01t\x00\x01\x80", flags=2),
    packet(SUBACK, b"\x00\x01\x00"),
    packet(DISCONNECT, b"\x77"),
]


@pytest.mark.parametrize(
    ("protocol", "garbage"), [*((5, one) for one in GARBAGE + GARBAGE_5), *((4, one) for one in GARBAGE)]
)
async def test_garbage_ends_the_connection_not_the_driver(tmp_path: Path, protocol: int, garbage: bytes) -> None:
    async with scripted_broker(protocol=protocol) as broker, running(link_to(broker.port, tmp_path, protocol)) as desk:
        side = await broker.connected()
        await side.subscribed.wait()
        await side.send(garbage)
        assert (await desk.disconnected()).epoch == 1
        await desk.connected(2)


async def test_garbage_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection gets random packets; after all of it a good one works."""
    monkeypatch.setattr(thread, "RETRY_S", (0.01, 0.01))
    chance = random.Random(7)
    async with scripted_broker() as broker, running(link_to(broker.port, tmp_path)) as desk:
        for number in range(1, 60):
            side = await broker.connected()
            await side.subscribed.wait()
            noise = b"".join(
                packet(chance.randrange(2, 16), chance.randbytes(chance.randrange(12)), chance.randrange(16))
                for _ in range(100)
            )
            await side.send(noise + b"\x00\x00")
            await desk.connected(number + 1)
        side = await broker.connected()
        await side.publish(b"t/a", b"good", qos=1, packet_id=1)
        await desk.until(lambda: desk.payloads[-1:] == [b"good"])


async def test_a_message_before_connack(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        broker.connack = None
        async with running(link_to(broker.port, tmp_path)) as desk:
            side = await broker.connected()
            await side.publish(b"t/a", b"x", qos=1, packet_id=1)
            assert await desk.disconnected() == Disconnected(0, "protocol error: a message before CONNACK")
            assert desk.messages == []


@pytest.mark.parametrize("step", ["connack", "up", "held"])
async def test_cancelling_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    for patience in ("CONNACK_TIMEOUT_S", "FLUSH_TIMEOUT_S", "LINGER_S"):
        monkeypatch.setattr(connection, patience, 60.0)
    async with scripted_broker() as broker:
        if step == "connack":
            broker.connack = None
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            if step == "connack":
                await broker.connected()
            else:
                await desk.connected()
                link.hold(step == "held")
            started = time.monotonic()
        assert time.monotonic() - started < 30


@pytest.mark.parametrize("tls", [False, True])
async def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    """Nobody accepts: TCP gets no answer when the backlog is full, TLS none anyway."""
    monkeypatch.setattr(mqtt_socket, "CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as others:
        port = server.getsockname()[1]
        for _ in range(0 if tls else 4):
            sock = others.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        async with running(MqttLink(SETTINGS, BrokerAddress("127.0.0.1", port, tls=tls), tmp_path)) as desk:
            assert await desk.disconnected() == Disconnected(0, "cannot connect: no answer in time")
            monkeypatch.setattr(mqtt_socket, "CONNECT_TIMEOUT_S", 60.0)
            await trio.sleep(1.5)  # it is trying again, with all that time
            started = time.monotonic()
        assert time.monotonic() - started < 30


async def test_disconnect_during_a_retry_and_before_connack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "RETRY_S", (60.0, 60.0))
    monkeypatch.setattr(connection, "CONNACK_TIMEOUT_S", 60.0)
    link = link_to(free_port(), tmp_path)
    async with running(link) as desk:
        await desk.disconnected()
        with trio.fail_after(30):
            await link.disconnect()
    async with scripted_broker() as broker:
        broker.connack = None
        link = link_to(broker.port, tmp_path)
        async with running(link):
            side = await broker.connected()
            with trio.fail_after(30):
                await link.disconnect()
            assert not side.said_goodbye


async def test_tls_files_that_cannot_be_used(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")
    link = MqttLink(evolve(SETTINGS, ca_file=bad), BrokerAddress("localhost", 8883, tls=True), tmp_path)
    with pytest.raises(NotStarted, match=r"ca\.pem"):
        await link.run(lambda event: None)
