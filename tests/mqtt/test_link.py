"""The MQTT driver against a real mosquitto: sessions, acknowledgements, bursts, log in, TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from attrs import evolve

from actors.mqtt.events import Connected, Disconnected, MessagesArrived
from actors.mqtt.link import MqttLink
from actors.settings.load import Secret
from tests.kit.servers import free_port
from tests.mqtt.mqtt_desk import SETTINGS, address_of, mosquitto, publish, running

pytestmark = pytest.mark.live
BOTH = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


def numbered(count: int) -> list[bytes]:
    return [b"%d" % i for i in range(count)]


@BOTH
async def test_messages_come_in_order_and_are_acknowledged(tmp_path: Path, protocol: str) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(evolve(SETTINGS, protocol=protocol), address_of(broker), tmp_path)
        async with running(link, acks=True) as desk:
            assert await desk.connected() == Connected(1, session_present=False)
            await publish(broker, "t/a", numbered(500))
            await desk.until(lambda: len(desk.messages) == 500)
            assert desk.messages == [(b"t/a", payload) for payload in numbered(500)]
            await link.disconnect()
        async with running(link) as desk:
            assert await desk.connected() == Connected(2, session_present=True)
            await publish(broker, "t/a", [b"last"])
            await desk.until(lambda: bool(desk.messages))
            assert desk.payloads == [b"last"]  # of the 500 nothing comes again


@BOTH
async def test_what_was_not_acknowledged_comes_again(tmp_path: Path, protocol: str) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(evolve(SETTINGS, protocol=protocol), address_of(broker), tmp_path)
        async with running(link) as desk:
            await desk.connected()
            await publish(broker, "t/a", numbered(10))
            await desk.until(lambda: len(desk.messages) == 10)
            link.acknowledge(1, tuple(desk.packet_ids[:4]))
            link.reconnect()
            await desk.connected(2)
            await desk.until(lambda: len(desk.messages) == 16)
            assert desk.payloads[10:] == numbered(10)[4:]
            await link.disconnect()


async def test_acks_of_an_old_epoch_are_dropped(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(SETTINGS, address_of(broker), tmp_path)
        async with running(link) as desk:
            await desk.connected()
            await publish(broker, "t/a", numbered(10))
            await desk.until(lambda: len(desk.messages) == 10)
            old = tuple(desk.packet_ids)
            link.reconnect()
            await desk.until(lambda: len(desk.messages) == 20)
            link.acknowledge(1, old)
            await link.disconnect()
        async with running(link) as desk:
            await desk.until(lambda: len(desk.messages) == 10)
            assert desk.payloads == numbered(10)


async def test_messages_sent_while_away_are_kept_by_the_broker(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(SETTINGS, address_of(broker), tmp_path)
        async with running(link) as desk:
            await desk.connected()
            await link.disconnect()
        await publish(broker, "t/a", numbered(3000))
        async with running(link, acks=True) as desk:
            assert (await desk.connected()).session_present
            await desk.until(lambda: len(desk.messages) == 3000)
            assert desk.payloads == numbered(3000)


@BOTH
async def test_a_burst_of_20000_is_complete_and_in_order(tmp_path: Path, protocol: str) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(evolve(SETTINGS, protocol=protocol), address_of(broker), tmp_path)
        async with running(link, acks=True) as desk:
            await desk.connected()
            await publish(broker, "t/a", numbered(20_000))
            await desk.until(lambda: len(desk.messages) == 20_000)
            assert desk.payloads == numbered(20_000)
            events = desk.all(MessagesArrived)
            assert len(events) < 20_000  # grouped
            assert all(len(event.messages) <= 1000 for event in events)


async def test_hold_stops_reading_and_loses_nothing(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(SETTINGS, address_of(broker), tmp_path)
        async with running(link, acks=True) as desk:
            await desk.connected()
            await publish(broker, "t/a", [b"first"])
            await desk.until(lambda: len(desk.messages) == 1)
            link.hold(True)
            await trio.sleep(0.5)  # longer than a turn: the thread has seen it
            await publish(broker, "t/a", numbered(5000))
            await trio.sleep(0.5)
            assert len(desk.messages) == 1
            link.hold(False)
            await desk.until(lambda: len(desk.messages) == 5001)
            assert desk.payloads[1:] == numbered(5000)
            assert not desk.all(Disconnected)


async def test_a_reader_that_takes_nothing_is_not_flooded(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(evolve(SETTINGS, receive_maximum=65535), address_of(broker), tmp_path)
        async with running(link) as desk:
            await desk.connected()
            await link.disconnect()
        payload = b"x" * 1000
        await publish(broker, "t/a", [payload] * 9000)
        async with running(link, takes=False, acks=True) as desk:
            await desk.connected()
            await desk.first(MessagesArrived, 9)
            await trio.sleep(0.5)
            assert len(desk.all(MessagesArrived)) == 9  # more than 8 are not waiting for
            assert len(desk.messages) < 9000
            desk.takes = True
            for _ in range(9):
                link.taken()
            await desk.until(lambda: len(desk.messages) == 9000)


async def test_a_restart_of_the_broker_is_expected_trouble(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(SETTINGS, address_of(broker), tmp_path)
        async with running(link, acks=True) as desk:
            await desk.connected()
            await publish(broker, "t/a", [b"before"])
            await desk.until(lambda: len(desk.messages) == 1)
            broker.stop()
            assert (await desk.disconnected()).epoch == 1
            await trio.sleep(1)
            assert len(desk.all(Disconnected)) <= 2  # one a reason, not one an attempt
            broker.start()
            assert await desk.connected(2) == Connected(2, session_present=True)
            await publish(broker, "t/a", [b"after"])
            await desk.until(lambda: len(desk.messages) == 2)
            assert desk.payloads == [b"before", b"after"]


async def test_qos_0_and_retained_messages(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        await publish(broker, "t/kept", [b"retained"], "-r")
        link = MqttLink(SETTINGS, address_of(broker), tmp_path)
        async with running(link) as desk:
            await desk.until(lambda: desk.payloads == [b"retained"])
            assert len(desk.packet_ids) == 1
            await publish(broker, "t/a", [b"promised nothing"], qos=0)
            await desk.until(lambda: len(desk.messages) == 2)
            assert len(desk.packet_ids) == 1


async def test_settings_qos_0_subscribes_at_0(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(evolve(SETTINGS, qos=0), address_of(broker), tmp_path)
        async with running(link) as desk:
            await desk.connected()
            await publish(broker, "t/a", [b"x"], qos=1)
            await desk.until(lambda: len(desk.messages) == 1)
            assert desk.packet_ids == []


async def test_a_property_that_paho_cannot_read_does_not_stop_the_rest(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(SETTINGS, address_of(broker), tmp_path)
        async with running(link, acks=True) as desk:
            await desk.connected()
            await publish(broker, "t/a", [b"odd"], "-V", "5", "-D", "publish", "user-property", "\ufeff", "v")
            await publish(broker, "t/a", [b"next"])
            await desk.until(lambda: desk.payloads == [b"odd", b"next"])
            assert not desk.all(Disconnected)


@BOTH
async def test_wrong_password_then_right(tmp_path: Path, protocol: str) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    await trio.run_process(["mosquitto_passwd", "-b", str(passwords), "backend", "s3cret"])
    settings = evolve(SETTINGS, protocol=protocol)
    async with mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        wrong = evolve(address_of(broker), username="backend", password=Secret("no"))
        assert "no" not in repr(wrong).replace("password", "").split("username")[1]
        async with running(MqttLink(settings, wrong, tmp_path)) as desk:
            lost = await desk.disconnected()
            assert lost == Disconnected(0, "the broker refused us: Not authorized")
            await trio.sleep(1.5)
            assert len(desk.events) == 1
            assert broker.log.count("New client connected") == 0
        right = evolve(address_of(broker), username="backend", password=Secret("s3cret"))
        async with running(MqttLink(settings, right, tmp_path)) as desk:
            assert (await desk.connected()).epoch == 1


async def test_a_removed_topic_is_unsubscribed_from_the_session(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        first = MqttLink(evolve(SETTINGS, topics=("t/#", "old/+")), address_of(broker), tmp_path)
        async with running(first, acks=True) as desk:
            await desk.connected()
            await publish(broker, "old/1", [b"x"])
            await desk.until(lambda: len(desk.messages) == 1)
            await first.disconnect()
        second = MqttLink(evolve(SETTINGS, topics=("t/#", "new/+")), address_of(broker), tmp_path)
        async with running(second, acks=True) as desk:
            assert (await desk.connected()).session_present
            await publish(broker, "new/1", [b"y"])
            await desk.until(lambda: len(desk.messages) == 1)
            await publish(broker, "old/1", [b"gone"])
            await publish(broker, "t/1", [b"z"])
            await desk.until(lambda: len(desk.messages) == 2)
            assert desk.payloads == [b"y", b"z"]
        assert (tmp_path / "mqtt_topics.json").read_text() == '{"tracking-backend":["new/+","t/#"]}'


async def test_publish(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        link = MqttLink(SETTINGS, address_of(broker), tmp_path)
        async with running(link, acks=True) as desk:
            link.publish("t/receipt", b"before the connection stands")
            await desk.connected()
            for i in range(300):
                link.publish("t/receipt", b"%d" % i)
            link.publish("t/+/not a topic", b"dropped")
            link.publish("t/receipt", b"end")
            await desk.until(lambda: desk.payloads[-1:] == [b"end"])
            assert desk.payloads == [b"before the connection stands", *numbered(300), b"end"]


async def test_tls(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    await trio.run_process([*make.split(), "-keyout", str(key), "-out", str(cert)], capture_stderr=True)
    tls_port = free_port()
    extra = ["allow_anonymous true", f"listener {tls_port} 127.0.0.1", f"certfile {cert}", f"keyfile {key}"]
    async with mosquitto(tmp_path, *extra) as broker:
        address = evolve(address_of(broker), host="localhost", port=tls_port, tls=True)
        async with running(MqttLink(SETTINGS, address, tmp_path)) as desk:
            assert "certificate" in (await desk.disconnected()).reason
        by_name = MqttLink(evolve(SETTINGS, ca_file=cert), address, tmp_path)
        async with running(by_name, acks=True) as desk:
            await desk.connected()
            await publish(broker, "t/a", numbered(5000))
            await desk.until(lambda: len(desk.messages) == 5000)
            assert desk.payloads == numbered(5000)
            await by_name.disconnect()
        async with running(by_name) as desk:
            await desk.connected()
            await trio.sleep(0.3)
            assert desk.messages == []
        sharing = MqttLink(evolve(SETTINGS, client_id="n", ca_file=cert), address, tmp_path, shared_group="g")
        async with running(sharing) as desk:  # whose probe is encrypted, too
            await desk.connected()
        other_name = evolve(address_of(broker), port=tls_port, tls=True)
        async with running(MqttLink(evolve(SETTINGS, ca_file=cert), other_name, tmp_path)) as desk:
            assert "certificate" in (await desk.disconnected()).reason
