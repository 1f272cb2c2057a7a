"""The commands' publisher: every message acknowledged, whatever the broker does meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from actors.mqtt import publisher as driver
from actors.mqtt import publisher_connection
from actors.mqtt.link import MqttLink
from actors.mqtt.publisher import Publisher, PublishFailed, addresses_of, open_publisher
from actors.settings.load import MqttSettings, Secret
from tests.kit.scripted_broker import PUBLISH, SUBSCRIBE, scripted_broker
from tests.kit.servers import Server, free_port
from tests.mqtt.mqtt_desk import SETTINGS, Desk, address_of, mosquitto, running

pytestmark = pytest.mark.live
BOTH = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


def to(port: int) -> MqttSettings:
    return attrs.evolve(SETTINGS, broker_url=f"mqtt://127.0.0.1:{port}")


async def drained(publisher: Publisher) -> None:
    """So that a message which is never acknowledged fails the test instead of stopping it for ever."""
    with trio.fail_after(30):
        await publisher.drain()


async def publish_all(settings: MqttSettings, *messages: tuple[str, bytes]) -> Publisher:
    """Publish these and wait for the answers; gives the publisher to ask what became of them."""
    async with open_publisher(settings) as publisher:
        for topic, payload in messages:
            await publisher.publish(topic, payload)
        await drained(publisher)
    return publisher


@asynccontextmanager
async def subscribed(broker: Server, folder: Path) -> AsyncIterator[Desk]:
    async with running(MqttLink(SETTINGS, address_of(broker), folder), acks=True) as desk:
        with trio.fail_after(30):
            while "Sending SUBACK" not in broker.log:
                await trio.sleep(0.01)
        yield desk


@BOTH
async def test_everything_arrives_in_order(tmp_path: Path, protocol: str) -> None:
    wanted = [(b"t/%d" % (i % 7), b"%d" % i) for i in range(5000)]  # more than are let out at once
    async with mosquitto(tmp_path) as broker, subscribed(broker, tmp_path) as desk:
        async with open_publisher(attrs.evolve(to(broker.port), protocol=protocol)) as publisher:
            for topic, payload in wanted:
                await publisher.publish(topic.decode(), payload)
                assert publisher.outstanding <= driver.OUTSTANDING
            await drained(publisher)
            assert (publisher.acknowledged, publisher.unheard, publisher.outstanding) == (5000, 0, 0)
        await desk.until(lambda: len(desk.messages) == 5000)
        assert desk.messages == wanted


async def test_tells_when_nobody_listens(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, open_publisher(to(broker.port)) as publisher:
        for number in range(30):
            await publisher.publish("t/a", b"%d" % number)
        await drained(publisher)
        assert (publisher.acknowledged, publisher.unheard) == (30, 30)


async def test_a_broker_that_goes_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, subscribed(broker, tmp_path) as desk:
        async with open_publisher(to(broker.port)) as publisher:
            for number in range(1000):
                await publisher.publish("t/a", b"%d" % number)
            while publisher.acknowledged < 200:
                await publisher.progress()
            broker.stop()
            for number in range(1000, 1500):
                await publisher.publish("t/a", b"%d" % number)
            broker.start()
            await drained(publisher)
            assert (publisher.acknowledged, publisher.reconnects) == (1500, 1)
        await desk.until(lambda: len(set(desk.payloads)) == 1500)
        first_seen = list(dict.fromkeys(desk.payloads))
        assert first_seen == [b"%d" % number for number in range(1500)]


async def test_what_is_unanswered_goes_first_on_the_next_connection() -> None:
    async with scripted_broker() as broker:
        broker.answers = False
        async with open_publisher(to(broker.port)) as publisher:
            for number in range(3):
                await publisher.publish("t", b"%d" % number)
            first = await broker.connected()
            await first.until(lambda: len(first.published) == 3)
            await publisher.publish("t", b"3")
            broker.answers = True
            await first.disconnect(0x8B)
            second = await broker.connected()
            await drained(publisher)
            assert second.published == [(b"t", b"%d" % number) for number in range(4)]


async def test_no_more_than_the_broker_takes_at_once() -> None:
    async with scripted_broker() as broker:
        broker.accept(properties=b"\x21\x00\x05")  # Receive Maximum 5
        broker.answers = False
        async with open_publisher(to(broker.port)) as publisher:
            for number in range(9):
                await publisher.publish("t", b"%d" % number)
            side = await broker.connected()
            await side.until(lambda: len(side.published) == 5)
            with trio.move_on_after(0.5) as waiting:  # nothing may come: only time can tell
                await side.until(lambda: len(side.published) > 5)
            assert waiting.cancelled_caught
            assert publisher.outstanding == 9


async def test_leaves_with_a_goodbye() -> None:
    async with scripted_broker() as broker:
        async with open_publisher(to(broker.port)) as publisher:
            await publisher.publish("t", b"x")
            await drained(publisher)
            side = await broker.connected()
        await side.closed.wait()
        assert side.said_goodbye


@pytest.mark.parametrize(
    ("lacks", "spoken"),
    [("says so", [5, 4]), ("closes", [5, 4, 5, 4]), ("says nothing", [5, 4, 5, 4])],
)
async def test_a_broker_without_mqtt_5_is_spoken_to_in_its_own_version(
    monkeypatch: pytest.MonkeyPatch, lacks: str, spoken: list[int]
) -> None:
    monkeypatch.setattr(publisher_connection, "CONNACK_TIMEOUT_S", 0.3)
    monkeypatch.setattr(driver, "RETRY_S", 60.0)  # it need not wait
    async with scripted_broker(protocol=4) as broker:
        broker.lacks_5 = lacks
        async with open_publisher(to(broker.port)) as publisher:
            await publisher.publish("t", b"x")
            await drained(publisher)
            sides = [await broker.connected() for _ in spoken]
        assert [side.received[0].body[6] for side in sides] == spoken
        assert [side.published for side in sides] == [[]] * (len(spoken) - 1) + [[(b"t", b"x")]]


async def test_a_version_that_was_set_is_not_changed_but_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "GIVE_UP_S", 0.0)
    async with scripted_broker(protocol=4) as broker:
        broker.lacks_5 = "closes"
        with pytest.raises(PublishFailed, match=r"try \[mqtt\] protocol = auto or 3\.1\.1"):
            await publish_all(attrs.evolve(to(broker.port), protocol="5"), ("t", b"x"))


async def test_the_next_node_is_tried_after_one_that_is_away_or_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "RETRY_S", 0.0)
    async with scripted_broker() as first, scripted_broker() as second:
        nodes = ",".join(f"mqtt://127.0.0.1:{port}" for port in (free_port(), first.port, second.port))
        async with open_publisher(attrs.evolve(SETTINGS, broker_url=nodes)) as publisher:
            first.answers = False
            await publisher.publish("t", b"x")
            side = await first.connected()
            await side.until(lambda: side.published == [(b"t", b"x")])
            await side.stream.aclose()
            await drained(publisher)
            assert (await second.connected()).published == [(b"t", b"x")]


async def test_wrong_password_is_final(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    passwords.chmod(0o600)
    async with mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        settings = attrs.evolve(to(broker.port), username="u", password=Secret("geheim"))
        with pytest.raises(PublishFailed, match="refused us: Not authorized"):
            await publish_all(settings, ("t", b"x"))


async def test_a_topic_that_is_forbidden_is_told(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite allowed/#\n")
    acl.chmod(0o600)
    async with mosquitto(tmp_path, "allow_anonymous true", f"acl_file {acl}") as broker:
        messages = [(topic, b"x") for topic in ("t/a", "allowed/b", "t/c")]
        with pytest.raises(PublishFailed, match="refused 2 messages: Not authorized"):
            await publish_all(to(broker.port), *messages)


async def test_no_broker_at_all_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "GIVE_UP_S", 0.0)
    with pytest.raises(PublishFailed, match=r"cannot be reached: .*refused"):
        await publish_all(to(free_port()), ("t", b"x"))


@pytest.mark.parametrize(
    ("at", "told"),
    [(PUBLISH, "Packet too large, at our PUBLISH to t:"), (SUBSCRIBE, r"Packet too large, at our SUBSCRIBE to r/\+:")],
)
async def test_a_broker_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch, at: int, told: str) -> None:
    monkeypatch.setattr(driver, "RETRY_S", 0.0)
    async with scripted_broker() as broker:
        broker.forbids, broker.ends = lambda one: one.kind == at, lambda side: side.disconnect(0x95)
        settings = attrs.evolve(to(broker.port), receipt_topic="r/{participant_id}")
        on_receipt = None if at == PUBLISH else lambda _receipt: None

        async def publish_one() -> None:
            async with open_publisher(settings, on_receipt) as publisher:
                await publisher.publish("t", b"x" * 100)
                await drained(publisher)

        with pytest.raises(PublishFailed, match=f"ended 5 connections without taking a message: {told} not allowed"):
            await publish_one()


async def test_receipts_that_the_broker_refuses_are_told() -> None:
    async with scripted_broker() as broker:
        broker.suback = b"\x87"
        settings = attrs.evolve(to(broker.port), receipt_topic="tracking/{participant_id}/receipt")

        async def publish_until_refused() -> None:
            async with open_publisher(settings, lambda _receipt: None) as publisher:
                with trio.fail_after(30):
                    while True:  # the answer to SUBSCRIBE may come after those to messages
                        await publisher.publish("t", b"x")
                        await publisher.drain()

        with pytest.raises(PublishFailed, match="refused us: subscription to receipts: Not authorized"):
            await publish_until_refused()


async def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    settings = attrs.evolve(SETTINGS, broker_url="mqtts://127.0.0.1", ca_file=tmp_path / "none.pem")
    with pytest.raises(PublishFailed, match="ca_file"):
        await publish_all(settings)


@pytest.mark.parametrize(
    ("bind", "host", "port"),
    [("127.0.0.1:1883", "127.0.0.1", 1883), ("0.0.0.0:1884", "127.0.0.1", 1884), ("[::]:1885", "::1", 1885)],
)
def test_an_embedded_broker_is_dialled_where_it_listens(bind: str, host: str, port: int) -> None:
    (address,) = addresses_of(attrs.evolve(MqttSettings(), embedded_bind=bind))
    assert (address.host, address.port, address.tls) == (host, port, False)
