"""A broker that does not let us: it ends the connection at a SUBSCRIBE or at a receipt, or refuses in SUBACK."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from attrs import evolve

from actors.mqtt import connection, outgoing, subscriptions, thread
from actors.mqtt.events import Connected, Disconnected, ReceiptsDropped, Subscribed, SubscriptionRefused, TakenOver
from actors.mqtt.link import BrokerAddress, MqttLink
from actors.mqtt.subscriptions import RememberedTopics
from tests.kit.client import reset_on_close
from tests.kit.scripted_broker import PUBLISH, SUBSCRIBE, BrokerSide, Packet, ScriptedBroker, scripted_broker
from tests.mqtt.mqtt_desk import SETTINGS, Desk, running

pytestmark = pytest.mark.live
Ends: TypeAlias = Callable[[BrokerSide], Awaitable[None]]
Forbids: TypeAlias = Callable[[Packet], bool]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits: what counts is how often."""
    monkeypatch.setattr(thread, "RETRY_S", (0.05, 0.05))
    monkeypatch.setattr(thread, "UNWANTED_RETRY_S", (0.05, 0.05))
    monkeypatch.setattr(subscriptions, "ASK_AGAIN_S", 0.1)


async def closed(side: BrokerSide) -> None:
    await side.stream.aclose()


async def reset(side: BrokerSide) -> None:
    reset_on_close(side.stream)
    await side.stream.aclose()


async def said(side: BrokerSide) -> None:
    await side.disconnect(0x87)  # not authorized


WAYS = pytest.mark.parametrize(("end", "protocol"), [(closed, 5), (closed, 4), (reset, 5), (reset, 4), (said, 5)])


def nothing(_one: Packet) -> bool:
    return False


def subscribing(one: Packet) -> bool:
    return one.kind == SUBSCRIBE


@asynccontextmanager
async def linked(
    folder: Path, protocol: int = 5, forbids: Forbids = nothing, end: Ends = closed, **more: Any
) -> AsyncIterator[tuple[ScriptedBroker, Desk]]:
    async with scripted_broker(protocol=protocol) as broker:
        broker.forbids, broker.ends = forbids, end
        settings = evolve(SETTINGS, client_id="me", protocol={5: "5", 4: "3.1.1"}[protocol], **more)
        async with running(MqttLink(settings, BrokerAddress("127.0.0.1", broker.port), folder), acks=True) as desk:
            yield broker, desk


def publishing_to(topic: bytes) -> Forbids:
    return lambda one: one.kind == PUBLISH and topic in one.body


@WAYS
async def test_it_ends_the_connection_at_our_subscribe(tmp_path: Path, end: Ends, protocol: int) -> None:
    """It is no other client, however often; the reason names the topic; and no session is lost where none was."""
    async with linked(tmp_path, protocol, subscribing, end) as (broker, desk):
        await desk.connected(6)
        reason = (await desk.disconnected()).reason
        assert reason.endswith("at our SUBSCRIBE to t/#: not allowed?")
        if end is closed:
            assert reason == "the broker closed the connection at our SUBSCRIBE to t/#: not allowed?"
        broker.forbids = nothing
        assert await desk.first(Subscribed) == Subscribed(complete=True)
        assert not desk.all(TakenOver)
        assert not any(event.session_lost for event in desk.all(Connected))


async def test_it_never_answers_our_subscribe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as messages come, the answer may be behind them."""
    monkeypatch.setattr(connection, "CONNACK_TIMEOUT_S", 2.0)
    async with linked(tmp_path) as (broker, desk):
        broker.suback = None
        side = await broker.connected()
        for packet_id in range(1, 7):
            await side.publish(b"t/a", b"x", qos=1, packet_id=packet_id)
            await trio.sleep(0.5)
        assert not desk.all(Disconnected)
        assert (await desk.disconnected()).reason == "no answer to SUBSCRIBE to t/# within 2 s"
        broker.suback = b""
        assert await desk.first(Subscribed) == Subscribed(complete=True)


@pytest.mark.parametrize(("granted", "lost"), [(True, True), (False, False)])
async def test_a_session_is_lost_where_something_had_been_granted(tmp_path: Path, granted: bool, lost: bool) -> None:
    """Also over a restart of the daemon, and by a broker that refuses in SUBACK."""
    async with linked(tmp_path) as (broker, desk):
        broker.suback = b"" if granted else b"\x87"
        await desk.first(Subscribed if granted else SubscriptionRefused)
    assert RememberedTopics(tmp_path, "me").read() == {"t/#"}, "whatever the session may hold"
    async with linked(tmp_path) as (_, desk):
        assert (await desk.connected()).session_lost == lost


@WAYS
async def test_it_ends_the_connection_at_a_receipt(tmp_path: Path, end: Ends, protocol: int) -> None:
    """Several are in flight: the one is found and dropped, the others arrive, in their order."""
    async with linked(tmp_path, protocol) as (broker, desk):
        await desk.first(Subscribed)
        broker.forbids, broker.ends = publishing_to(b"r/P.1"), end
        for number, name in enumerate(["P1", "P2", "P.1", "P3", "P.1", "P4"]):
            desk.link.publish(f"r/{name}", b"%d" % number)
        with trio.fail_after(30):
            while (b"r/P4", b"5") not in broker.published:
                await trio.sleep(0.02)
        allowed = [(b"r/P1", b"0"), (b"r/P2", b"1"), (b"r/P3", b"3"), (b"r/P4", b"5")]
        assert list(dict.fromkeys(broker.published)) == allowed
        await desk.until(lambda: sum(event.count for event in desk.all(ReceiptsDropped)) == 2)
        assert {event.topic for event in desk.all(ReceiptsDropped)} == {"r/P.1"}
        assert not desk.all(TakenOver)
        assert len(desk.all(Connected)) <= 4
        assert any("at our PUBLISH to r/P" in event.reason for event in desk.all(Disconnected))


@WAYS
async def test_receipts_that_are_never_allowed_leave_the_connection_to_the_fixes(
    tmp_path: Path, end: Ends, protocol: int
) -> None:
    async with linked(tmp_path, protocol) as (broker, desk):
        await desk.first(Subscribed)
        broker.forbids, broker.ends = publishing_to(b"r/"), end
        for number in range(100):
            desk.link.publish(f"r/{number}", b"x")
        await desk.until(lambda: sum(event.count for event in desk.all(ReceiptsDropped)) == 100)
        while (side := await broker.connected()).closed.is_set():
            pass
        for number in range(100):
            desk.link.publish(f"r/{number}", b"x")
        await side.publish(b"t/a", b"x", qos=1, packet_id=1)
        await side.until(lambda: side.acks == [1])
        await desk.until(lambda: sum(event.count for event in desk.all(ReceiptsDropped)) == 200)
        assert len(desk.all(Connected)) <= 2 + outgoing.IN_A_ROW * outgoing.CLOSES
        assert not desk.all(TakenOver)


async def test_a_rival_is_noticed_when_receipts_are_on_their_way(tmp_path: Path) -> None:
    """Answered ones do not hide it."""
    async with linked(tmp_path) as (broker, desk):
        for number in range(1, 4):
            side = await broker.connected()
            await desk.first(Subscribed, number)
            desk.link.publish("r", b"x")
            await side.until(partial(operator.attrgetter("published"), side))
            await trio.sleep(0.3)  # its PUBACK is read
            await side.stream.aclose()
        await desk.first(TakenOver)


async def test_receipts_that_puback_refuses_are_counted(tmp_path: Path) -> None:
    async with linked(tmp_path) as (broker, desk):
        await desk.first(Subscribed)
        broker.puback = 0x87
        desk.link.publish("r", b"x")
        dropped = ReceiptsDropped(1, "r", "the broker refused it: Not authorized")
        assert await desk.first(ReceiptsDropped) == dropped
        assert not desk.all(Disconnected)


async def test_a_refused_subscription_is_asked_for_again_until_it_is_granted(tmp_path: Path) -> None:
    async with linked(tmp_path, topics=("a/#", "b/#")) as (broker, desk):
        broker.suback = b"\x01\x87"
        assert await desk.first(SubscriptionRefused) == SubscriptionRefused("b/#", "Not authorized")
        assert desk.all(Subscribed) == [Subscribed(complete=False)]
        side = await broker.connected()
        broker.suback = b"\x87"
        await side.until(lambda: sum(one.kind == SUBSCRIBE for one in side.received) >= 4)
        assert side.filters == [("b/#", 1)]
        assert len(desk.all(SubscriptionRefused)) == 1, "said once"
        broker.suback = b""
        assert await desk.first(Subscribed, 2) == Subscribed(complete=True)
        asked = sum(one.kind == SUBSCRIBE for one in side.received)
        await trio.sleep(0.5)
        assert sum(one.kind == SUBSCRIBE for one in side.received) == asked
        assert not desk.all(Disconnected)


async def test_of_several_refused_ones_those_that_still_are_stay_named(tmp_path: Path) -> None:
    async with linked(tmp_path, 4, topics=("a", "b")) as (broker, desk):
        broker.suback = b"\x80\x80"
        await desk.first(SubscriptionRefused, 2)
        broker.suback = b"\x01\x80"
        assert (await desk.first(SubscriptionRefused, 3)).topic == "b"
        assert desk.all(Subscribed) == [Subscribed(complete=False)]
        broker.suback = b"\x01"
        assert await desk.first(Subscribed, 2) == Subscribed(complete=True)
