"""The MQTT driver against a broker that breaks the rules, or does what mosquitto cannot be made to do."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from attrs import evolve

from actors.mqtt import connection
from actors.mqtt.events import Connected, CopiesDropped, Disconnected, MessagesArrived, SubscriptionRefused
from actors.mqtt.link import BrokerAddress, MqttLink
from actors.mqtt.orders import MAX_PUBLISHES
from actors.settings.load import MqttSettings
from tests.kit.scripted_broker import (
    CONNACK,
    CONNECT,
    PUBACK,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    packet,
    scripted_broker,
)
from tests.mqtt.mqtt_desk import SETTINGS, running

BOTH = pytest.mark.parametrize("protocol", [5, 4])


@pytest.fixture(autouse=True, params=[False, True], ids=["split", "plain"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PUBLISH taken out of the stream by us, or left to paho: nobody may see a difference."""
    monkeypatch.setattr(connection, "PLAIN", request.param)


def link_to(port: int, folder: Path, protocol: int = 5, settings: MqttSettings = SETTINGS) -> MqttLink:
    name = {5: "5", 4: "3.1.1"}[protocol]
    return MqttLink(evolve(settings, protocol=name), BrokerAddress("127.0.0.1", port), folder)


@BOTH
async def test_connect_asks_for_the_session(tmp_path: Path, protocol: int) -> None:
    async with scripted_broker(protocol=protocol) as broker:
        link = link_to(broker.port, tmp_path, protocol, evolve(SETTINGS, topics=("a/+", "b/#"), client_id="me"))
        async with running(link) as desk:
            side = await broker.connected()
            await side.subscribed.wait()
            assert await desk.connected() == Connected(1, session_present=False)
            connect = side.received[0]
            assert connect.kind == CONNECT
            keepalive = struct.pack("!H", 15)
            if protocol == 5:
                properties = b"\x11" + struct.pack("!L", 86400) + b"\x21" + struct.pack("!H", 10000)
                assert connect.body == b"\0\4MQTT\5\0" + keepalive + bytes([len(properties)]) + properties + b"\0\2me"
            else:
                assert connect.body == b"\0\4MQTT\4\0" + keepalive + b"\0\2me"
            assert side.filters == [("a/+", 1), ("b/#", 1)]
            await link.disconnect()
            await side.closed.wait()
            assert side.said_goodbye
            assert side.unsubscribed == []


@BOTH
async def test_acks_leave_in_the_order_of_the_calls(tmp_path: Path, protocol: int) -> None:
    async with scripted_broker(protocol=protocol) as broker:
        link = link_to(broker.port, tmp_path, protocol)
        async with running(link) as desk:
            side = await broker.connected()
            for packet_id in (3, 1, 65535, 2):
                await side.publish(b"t/a", b"%d" % packet_id, qos=1, packet_id=packet_id)
            await desk.until(lambda: len(desk.messages) == 4)
            assert desk.packet_ids == [3, 1, 65535, 2]
            link.acknowledge(1, (3, 1))
            link.acknowledge(1, (65535,))
            link.acknowledge(1, (2,))
            await side.until(lambda: len(side.acks) == 4)
            assert side.acks == [3, 1, 65535, 2]
            link.acknowledge(1, (3, 77))  # acknowledged already, never received
            await link.disconnect()
            await side.closed.wait()
            assert side.acks == [3, 1, 65535, 2]


async def test_acks_of_another_epoch_are_not_sent(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            first = await broker.connected()
            await first.subscribed.wait()
            await first.publish(b"t/a", b"1", qos=1, packet_id=1)
            await desk.until(lambda: len(desk.messages) == 1)
            await first.stream.aclose()
            assert await desk.disconnected() == Disconnected(1, "connection lost")
            second = await broker.connected()
            await second.publish(b"t/b", b"another", qos=1, packet_id=1)
            await desk.until(lambda: len(desk.messages) == 2)
            link.acknowledge(1, (1,))
            await link.disconnect()
            await second.closed.wait()
            assert second.acks == []
            assert second.said_goodbye


async def test_epochs_go_on_in_a_second_run(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            assert (await desk.connected()).epoch == 1
        link.acknowledge(1, (1,))  # not running: nothing happens
        link.taken()
        link.hold(True)
        link.reconnect()
        link.publish("t", b"")
        await link.disconnect()
        async with running(link) as desk:
            assert (await desk.connected()).epoch == 2


async def test_acks_given_before_disconnect_are_flushed(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            side = await broker.connected()
            await desk.connected()
            ids = range(1, 10_001)
            await side.send(b"".join(side.publish_bytes(b"t/a", b"x", 1, packet_id) for packet_id in ids))
            await desk.until(lambda: len(desk.messages) == 10_000)
            link.acknowledge(1, tuple(desk.packet_ids))
            await link.disconnect()
            await side.closed.wait()
            assert side.acks == list(ids)
            assert side.said_goodbye


@BOTH
async def test_packets_that_break_the_rules_a_little_are_delivered(tmp_path: Path, protocol: int) -> None:
    async with scripted_broker(protocol=protocol) as broker:
        link = link_to(broker.port, tmp_path, protocol)
        async with running(link, acks=True) as desk:
            side = await broker.connected()
            await side.publish(b"", b"no topic", qos=1, packet_id=1)
            await side.publish(b"t/\xff\xfe", b"no UTF-8", qos=1, packet_id=2)
            await side.publish(b"t/a", b"packet id 0", qos=1, packet_id=0)
            await side.publish(b"t/a", b"", qos=0)
            await side.publish(b"t/a", b"retained", qos=1, packet_id=3, retain=True)
            await desk.until(lambda: len(desk.messages) == 5)
            assert [topic for topic, _ in desk.messages] == [b"", b"t/\xff\xfe", b"t/a", b"t/a", b"t/a"]
            assert desk.payloads == [b"no topic", b"no UTF-8", b"packet id 0", b"", b"retained"]
            await side.until(lambda: side.acks == [1, 2, 3])
            assert not desk.all(Disconnected)


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_copy_of_what_is_not_acknowledged_is_dropped(tmp_path: Path, qos: int) -> None:
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            side = await broker.connected()
            for _ in range(3):
                await side.publish(b"t/a", b"x", qos=qos, packet_id=5)
                await side.publish(b"t/a", b"x", qos=qos, packet_id=5, dup=True)
            await side.publish(b"t/a", b"end")
            await desk.until(lambda: desk.payloads[-1:] == [b"end"])
            assert desk.payloads == [b"x", b"end"]
            assert sum(dropped.count for dropped in desk.all(CopiesDropped)) == 5
            link.acknowledge(1, tuple(desk.packet_ids))
            await side.until(lambda: side.acks + side.pubrecs == [5])
            await side.publish(b"t/a", b"x", qos=qos, packet_id=5)  # the id is free again
            await desk.until(lambda: len(desk.messages) == 3)
            assert desk.packet_ids[0] == desk.packet_ids[1]


async def test_an_id_that_is_used_twice_is_acknowledged_when_both_are_durable(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            side = await broker.connected()
            for payload in (b"x", b"y"):
                await side.publish(b"t/a", payload, qos=1, packet_id=5)
            await side.publish(b"t/a", b"z", qos=1, packet_id=6)
            await desk.until(lambda: desk.payloads == [b"x", b"y", b"z"])
            assert desk.packet_ids == [5, 5, 6]
            link.acknowledge(1, (5,))
            link.acknowledge(1, (6,))
            await side.until(lambda: bool(side.acks))
            assert side.acks == [6]
            link.acknowledge(1, (5,))
            await side.until(lambda: side.acks == [6, 5])


@BOTH
async def test_qos_2_is_acknowledged_when_the_reader_says_so(tmp_path: Path, protocol: int) -> None:
    async with scripted_broker(protocol=protocol) as broker:
        link = link_to(broker.port, tmp_path, protocol)
        async with running(link) as desk:
            side = await broker.connected()
            await side.publish(b"t/a", b"two", qos=2, packet_id=9)
            await side.publish(b"t/a", b"without an id", qos=2, packet_id=0)
            await side.publish(b"t/a", b"one", qos=1, packet_id=8)
            await desk.until(lambda: desk.payloads == [b"two", b"without an id", b"one"])
            await side.send(packet(PUBREL, b"\0\x63", flags=2))  # of an id that we do not know: an answer all the same
            await side.until(lambda: side.pubcomps == [99])
            assert side.pubrecs == []
            link.acknowledge(1, tuple(desk.packet_ids))
            await side.until(lambda: len(side.received) >= 5)
            assert [(one.kind, one.body) for one in side.received[-2:]] == [(PUBREC, b"\0\x09"), (PUBACK, b"\0\x08")]
            await side.send(packet(PUBREL, b"\0\x09" + b"\0" * (protocol == 5), flags=2))
            await side.until(lambda: side.pubcomps == [99, 9])


@BOTH
async def test_qos_2_comes_again_on_the_next_connection_until_pubrec(tmp_path: Path, protocol: int) -> None:
    async with scripted_broker(protocol=protocol) as broker:
        link = link_to(broker.port, tmp_path, protocol)
        async with running(link) as desk:
            side = await broker.connected()
            await side.publish(b"t/a", b"two", qos=2, packet_id=9)
            await desk.until(lambda: desk.payloads == [b"two"])
            await side.stream.aclose()
            assert side.pubrecs == []
            side = await broker.connected()
            await side.publish(b"t/a", b"two", qos=2, packet_id=9, dup=True)
            await desk.until(lambda: desk.payloads == [b"two", b"two"])
            link.acknowledge(2, tuple(desk.packet_ids[1:]))
            await side.until(lambda: side.pubrecs == [9])


async def test_refused_subscription(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        broker.suback = b"\x01\x87"
        async with running(link_to(broker.port, tmp_path, settings=evolve(SETTINGS, topics=("a", "b")))) as desk:
            assert await desk.first(SubscriptionRefused) == SubscriptionRefused("b", "Not authorized")
            assert not desk.all(Disconnected)


async def test_refused_subscription_in_mqtt_3(tmp_path: Path) -> None:
    async with scripted_broker(protocol=4) as broker:
        broker.suback = b"\x80"
        async with running(link_to(broker.port, tmp_path, 4)) as desk:
            assert (await desk.first(SubscriptionRefused)).topic == "t/#"


async def test_publishes_are_repeated_on_the_next_connection_in_order(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            broker.answers = False
            side = await broker.connected()
            await desk.connected()
            for i in range(25):
                link.publish("r", b"%d" % i)
            await side.until(lambda: len(side.published) == 20)  # the window
            broker.answers = True
            await side.stream.aclose()
            side = await broker.connected()
            await side.until(lambda: len(side.published) == 25)
            assert side.published == [(b"r", b"%d" % i) for i in range(25)]


async def test_too_many_publishes_drop_the_oldest(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        broker.connack = None
        link = link_to(broker.port, tmp_path)
        async with running(link):
            side = await broker.connected()
            for i in range(MAX_PUBLISHES + 1):
                link.publish("r", b"%d" % i)
            await side.send(packet(CONNACK, b"\0\0\0"))
            await side.until(lambda: bool(side.published))
            assert side.published[0] == (b"r", b"1")


async def test_a_large_payload_in_pieces(tmp_path: Path) -> None:
    payload = random.Random(1).randbytes(3_000_000)
    async with scripted_broker() as broker, running(link_to(broker.port, tmp_path)) as desk:
        side = await broker.connected()
        await side.subscribed.wait()  # SUBACK does not come between the pieces
        data = side.publish_bytes(b"t/a", payload, 1, 1) + side.publish_bytes(b"t/a", b"after", 1, 2)
        for at in range(0, len(data), 99_991):
            await side.send(data[at : at + 99_991])
        await desk.until(lambda: len(desk.messages) == 2)
        assert desk.payloads == [payload, b"after"]
        assert desk.all(MessagesArrived)[0].payload_bytes >= len(payload)


async def test_a_broken_list_of_topics_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "mqtt_topics.json").write_text("{nonsense")
    async with scripted_broker() as broker:
        broker.accept(session_present=True)
        async with running(link_to(broker.port, tmp_path)):
            side = await broker.connected()
            await side.subscribed.wait()
            assert side.unsubscribed == []


async def test_a_removed_topic_is_remembered_until_the_broker_has_unsubscribed_it(tmp_path: Path) -> None:
    known = tmp_path / "mqtt_topics.json"
    known.write_text('{"tracking-backend":["old/#","t/#"]}')
    async with scripted_broker() as broker:
        broker.accept(session_present=True)
        broker.answers = False  # no SUBACK, so not all is answered
        async with running(link_to(broker.port, tmp_path)):
            side = await broker.connected()
            await side.until(lambda: side.unsubscribed == ["old/#"])
            kinds = [one.kind for one in side.received]
            assert kinds.index(SUBSCRIBE) < kinds.index(UNSUBSCRIBE)  # it may be the same in another form
        assert known.read_text() == '{"tracking-backend":["old/#","t/#"]}'


@pytest.mark.parametrize(("session", "unsubscribed"), [(True, ["old/#"]), (False, [])])
async def test_a_topic_is_unsubscribed_only_in_a_session(
    tmp_path: Path, session: bool, unsubscribed: list[str]
) -> None:
    (tmp_path / "mqtt_topics.json").write_text('{"tracking-backend":["old/#","t/#"],"other":["x"]}')
    async with scripted_broker() as broker:
        broker.accept(session_present=session)
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            side = await broker.connected()
            await side.subscribed.wait()
            await side.until(lambda: side.unsubscribed == unsubscribed)
            await side.publish(b"t/a", b"x", qos=1, packet_id=1)  # after SUBACK and UNSUBACK
            await desk.until(lambda: len(desk.messages) == 1)
        assert (tmp_path / "mqtt_topics.json").read_text() == '{"tracking-backend":["t/#"],"other":["x"]}'
