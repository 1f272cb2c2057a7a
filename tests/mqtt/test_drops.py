"""What the broker says it drops is asked for where that does no harm, and never becomes a message."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from attrs import evolve

from actors.core.addresses import BrokerAddress
from actors.mqtt import subscriptions
from actors.mqtt.drop_counts import TOPIC
from actors.mqtt.events import BrokerDropped, Disconnected, MessagesArrived, SubscriptionRefused
from actors.mqtt.link import MqttLink
from tests.kit.scripted_broker import BrokerSide, scripted_broker
from tests.mqtt.mqtt_desk import SETTINGS, mosquitto, publish, running

ALONE = [(TOPIC, 0)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "ASK_AFTER_S", 0.5)


def link_to(port: int, folder: Path, protocol: str = "5") -> MqttLink:
    return MqttLink(evolve(SETTINGS, protocol=protocol), BrokerAddress("127.0.0.1", port), folder)


async def asked(side: BrokerSide) -> None:
    await side.until(lambda: side.filters == ALONE)


async def never_asked(side: BrokerSide) -> None:
    await side.subscribed.wait()
    await trio.sleep(1.5)
    assert side.filters == [("t/#", 1)]


async def test_asked_alone_when_all_else_is_granted_and_on_each_connection(tmp_path: Path) -> None:
    async with scripted_broker() as broker, running(link_to(broker.port, tmp_path)) as desk:
        for number in (1, 2):
            side = await broker.connected()
            await side.subscribed.wait()
            assert side.filters == [("t/#", 1)]
            await asked(side)
            await side.publish(TOPIC.encode(), b"%d" % number)
            await side.publish(b"t/a", b"x", qos=1, packet_id=1)
            await desk.first(MessagesArrived, number)
            await side.stream.aclose()
        assert desk.all(BrokerDropped) == [BrokerDropped(1), BrokerDropped(2)]
        assert desk.payloads == [b"x", b"x"]


async def test_a_connection_that_ends_over_it_is_the_last_one_to_be_asked(tmp_path: Path) -> None:
    async with scripted_broker() as broker, running(link_to(broker.port, tmp_path)) as desk:
        side = await broker.connected()
        await side.subscribed.wait()
        broker.answers = False
        await asked(side)
        await side.stream.aclose()
        broker.answers = True
        await never_asked(await broker.connected())
        assert len(desk.all(Disconnected)) == 1


@pytest.mark.parametrize("protocol", [5, 4])
async def test_a_refusal_is_no_trouble_and_the_last_one(tmp_path: Path, protocol: int) -> None:
    name = {5: "5", 4: "3.1.1"}[protocol]
    async with (
        scripted_broker(protocol=protocol) as broker,
        running(link_to(broker.port, tmp_path, name)) as desk,
    ):
        side = await broker.connected()
        await side.subscribed.wait()
        broker.suback = b"\x80"
        await asked(side)
        await side.publish(b"t/a", b"x", qos=1, packet_id=1)
        await desk.until(lambda: len(desk.messages) == 1)
        assert not desk.all(SubscriptionRefused)
        await side.stream.aclose()
        broker.suback = b""
        await never_asked(await broker.connected())


async def test_not_before_all_that_is_needed_is_granted(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        broker.suback = b"\x80"
        async with running(link_to(broker.port, tmp_path)):
            await never_asked(await broker.connected())


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_mosquitto_says_what_it_drops(tmp_path: Path, protocol: str) -> None:
    """For another client here, which is away: it says the same for us."""
    extra = ("allow_anonymous true", "max_queued_messages 5", "sys_interval 1")
    async with mosquitto(tmp_path, *extra) as broker, running(link_to(broker.port, tmp_path, protocol)) as desk:
        assert await desk.first(BrokerDropped) == BrokerDropped(0)
        await trio.run_process(
            ["mosquitto_sub", "-p", str(broker.port), "-t", "u", "-q", "1", "-c", "-i", "away", "-E"]
        )
        await publish(broker, "u", [b"x"] * 20)
        await desk.until(lambda: desk.all(BrokerDropped)[-1] == BrokerDropped(15))
        assert desk.messages == []
