"""Which MQTT the driver speaks, and to which of several nodes."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import evolve

from actors.core.addresses import Address
from actors.mqtt import connection, thread
from actors.mqtt.events import Connected, Disconnected, Subscribed, TakenOver
from actors.mqtt.link import BrokerAddress, MqttLink
from actors.settings.load import Secret
from tests.kit.scripted_broker import CONNECT, BrokerSide, ScriptedBroker, scripted_broker
from tests.kit.servers import free_port
from tests.mqtt.mqtt_desk import SETTINGS, Desk, running

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "RETRY_S", (0.05, 0.05))
    monkeypatch.setattr(thread, "UNWANTED_RETRY_S", (0.05, 0.05))


@asynccontextmanager
async def linked(folder: Path, *brokers: ScriptedBroker, protocol: str = "auto", first: int = 0) -> AsyncIterator[Desk]:
    """To these nodes, in this order; before them to this port, if any."""
    nodes = [Address("127.0.0.1", port) for port in ([first] if first else []) + [broker.port for broker in brokers]]
    address = BrokerAddress("127.0.0.1", nodes[0].port, others=tuple(nodes[1:]))
    settings = evolve(SETTINGS, client_id="me", protocol=protocol)
    async with running(MqttLink(settings, address, folder), acks=True) as desk:
        yield desk


def version(side: BrokerSide) -> int:
    connect = side.received[0]
    assert connect.kind == CONNECT
    return connect.body[6]


async def spoken(broker: ScriptedBroker, times: int) -> list[int]:
    return [version(await broker.connected()) for _ in range(times)]


@pytest.mark.parametrize(
    ("lacks", "versions"), [("says so", [5, 4]), ("closes", [5, 4, 5, 4]), ("says nothing", [5, 4, 5, 4])]
)
async def test_a_broker_without_mqtt_5(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lacks: str,
    versions: list[int],
) -> None:
    """3.1.1 is found without a word of trouble, kept over reconnects, and said once."""
    if lacks == "says nothing":
        monkeypatch.setattr(connection, "CONNACK_TIMEOUT_S", 0.5)
    async with scripted_broker(protocol=4) as broker:
        broker.lacks_5 = lacks
        async with linked(tmp_path, broker) as desk:
            await desk.first(Subscribed)
            assert not desk.all(Disconnected)
            assert len(desk.all(Connected)) == 1
            assert await spoken(broker, len(versions)) == versions
            (side,) = broker.sides
            await side.publish(b"t/a", b"x", qos=1, packet_id=1)
            await side.until(lambda: side.acks == [1])
            await side.stream.aclose()
            await desk.first(Subscribed, 2)
            assert await spoken(broker, 1) == [4]
    assert capsys.readouterr().out.count("MQTT 3.1.1 has no session_expiry_s") == 1


async def test_a_broker_that_starts_behind_a_proxy_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    """Everybody is let in and thrown out until it is there. Then MQTT 5 it is, in whatever turn it comes."""
    for turns in range(1, 5):
        async with scripted_broker() as broker:
            broker.forbids = lambda one: one.kind == CONNECT
            async with linked(tmp_path, broker) as desk:
                await desk.disconnected()
                while len(broker.refused) < turns:
                    await trio.sleep(0.01)
                broker.forbids = lambda _one: False
                await desk.first(Subscribed)
                assert [version(side) for side in broker.sides] == [5]
                assert {event.reason for event in desk.all(Disconnected)} == {"connection lost before CONNACK"}


async def test_an_upgraded_broker_is_found_when_3_1_1_fails(tmp_path: Path) -> None:
    async with scripted_broker(protocol=4) as broker:
        broker.lacks_5 = "says so"
        async with linked(tmp_path, broker) as desk:
            await desk.first(Subscribed)
            broker.lacks_5 = ""
            broker.protocol = 5
            broker.accept()
            broker.forbids = lambda one: one.kind == CONNECT and one.body[6] == 4
            await broker.hang_up()
            await desk.first(Subscribed, 2)
            (side,) = broker.sides
            assert version(side) == 5


@pytest.mark.parametrize(
    ("lacks", "reason"),
    [
        ("says so", "the broker refused us: Unsupported protocol version"),
        ("closes", "connection lost before CONNACK"),
        ("says nothing", "no answer to CONNECT within 0.5 s"),
    ],
)
async def test_a_version_that_was_set_is_kept_and_the_reason_says_what_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str, reason: str
) -> None:
    monkeypatch.setattr(connection, "CONNACK_TIMEOUT_S", 0.5)
    async with scripted_broker(protocol=4) as broker:
        broker.lacks_5 = lacks
        async with linked(tmp_path, broker, protocol="5") as desk:
            assert (await desk.disconnected()).reason == f"{reason}; try [mqtt] protocol = auto or 3.1.1"
            assert await spoken(broker, 3) == [5, 5, 5]


async def test_3_1_1_that_was_set_is_spoken_at_once_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scripted_broker(protocol=4) as broker, linked(tmp_path, broker, protocol="3.1.1") as desk:
        await desk.first(Subscribed)
        assert await spoken(broker, 1) == [4]
    assert capsys.readouterr().out.count("MQTT 3.1.1 has no session_expiry_s") == 1


async def test_a_password_without_a_name_is_sent(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        address = BrokerAddress("127.0.0.1", broker.port, password=Secret("hunter2"))
        async with running(MqttLink(SETTINGS, address, tmp_path)):
            connect = (await broker.connected()).received[0]
            assert connect.body.endswith(b"\0\0\0\7hunter2")


# --- several nodes ---------------------------------------------------------------------------------------------


async def test_nodes_are_tried_in_turn_and_the_session_goes_with_us(tmp_path: Path) -> None:
    """The first is away; each loss leads to the next one."""
    async with scripted_broker() as one, scripted_broker() as two:
        one.accept(session_present=True)
        two.accept(session_present=True)
        async with linked(tmp_path, one, two, first=(nobody := free_port())) as desk:
            for number, broker in enumerate((one, two, one), 1):
                await desk.first(Subscribed, number)
                (side,) = broker.sides
                await side.publish(b"t/a", b"%d" % number, qos=1, packet_id=1)
                await side.until(partial(operator.attrgetter("acks"), side))
                await side.stream.aclose()
            assert desk.payloads == [b"1", b"2", b"3"]
            reasons = [event.reason for event in desk.all(Disconnected)]
            assert reasons[:2] == [
                f"127.0.0.1:{nobody}: cannot connect: Connection refused",
                f"127.0.0.1:{one.port}: connection lost",
            ]


async def test_trouble_of_several_nodes_is_said_once_each(tmp_path: Path) -> None:
    async with scripted_broker() as full:
        full.accept(code=0x97)
        async with linked(tmp_path, full, first=(nobody := free_port())) as desk:
            for _ in range(5):
                await full.connected()
            assert [event.reason for event in desk.all(Disconnected)] == [
                f"127.0.0.1:{nobody}: cannot connect: Connection refused",
                f"127.0.0.1:{full.port}: the broker refused us: Quota exceeded",
            ]


async def test_another_client_is_noticed_over_all_nodes(tmp_path: Path) -> None:
    async with scripted_broker() as one, scripted_broker() as two, linked(tmp_path, one, two) as desk:
        for number, broker in enumerate((one, two, one), 1):
            await desk.first(Subscribed, number)
            await broker.sides[0].stream.aclose()
        assert (await desk.first(TakenOver)).client_id == "me"


async def test_nodes_that_restart_one_after_the_other_are_no_other_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is connected to one node says nothing about another; a node that stops closes it, too."""
    monkeypatch.setattr(thread, "RETRY_S", (3.0, 3.0))  # the witness comes first, also on a busy machine
    async with scripted_broker() as one, scripted_broker() as two, linked(tmp_path, one, two) as desk:
        for number, broker in enumerate((one, two, one, two, one), 1):
            await desk.first(Subscribed, number)
            await broker.hang_up()
            await desk.first(Disconnected, number)
            with trio.fail_after(30):
                while not broker.sides:  # the witness
                    await trio.sleep(0.01)
            await broker.hang_up()
        await desk.first(Subscribed, 6)
        assert not desk.all(TakenOver)
