"""What the reader makes of the broker's state: when it is up, what is said of receipts, and of a silence."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.ingest.broker_state import QUIET_S
from actors.mqtt.events import (
    BrokerEvent,
    CannotShare,
    Connected,
    Disconnected,
    ReceiptsDropped,
    Subscribed,
    SubscriptionRefused,
)
from tests.ingest.reader_world import World, payload, running, world


async def happens(w: World, *events: BrokerEvent) -> None:
    for event in events:
        w.inbox.send_nowait(event)
    await wait_all_tasks_blocked()


def state(w: World) -> tuple[bool, str]:
    broker = w.health.components["broker"]
    return broker.up, broker.detail


async def test_the_broker_is_up_when_it_has_granted_all(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        await happens(w, Disconnected(1, "closed at SUBSCRIBE"), Connected(2, session_present=False))
        assert state(w) == (False, "closed at SUBSCRIBE")
        await happens(w, Subscribed(complete=False), SubscriptionRefused("b", "Not authorized"))
        assert state(w) == (False, "subscription b refused: Not authorized")
        await happens(w, Subscribed(complete=True))
        assert state(w) == (True, "ok")


async def test_held_it_is_up_once_connected_because_suback_is_not_read(autojump_clock: MockClock) -> None:
    w = world(max_in_flight=1)
    async with running(w):
        w.broker.publish(payload())
        await wait_all_tasks_blocked()
        assert w.link.holds == [True]
        await happens(w, Disconnected(1, "lost"), Connected(2, session_present=True))
        assert state(w) == (True, "ok")


async def test_a_session_without_a_subscription_cannot_be_lost(autojump_clock: MockClock) -> None:
    w = world()
    w.broker.away = True  # only what the test says happens
    async with running(w):
        for epoch in (1, 2, 3):
            await happens(w, Connected(epoch, session_present=False), Disconnected(epoch, "closed at SUBSCRIBE"))
        assert w.count("mqtt_session_lost_total") == 0
        await happens(w, Connected(4, session_present=False), Subscribed(complete=False), Disconnected(4, "lost"))
        await happens(w, Connected(5, session_present=False), Disconnected(5, "closed at SUBSCRIBE"))
        assert w.count("mqtt_session_lost_total") == 1
        await happens(w, Connected(6, session_present=False))
        assert w.count("mqtt_session_lost_total") == 1, "the new one never had any"


def lines(capsys: pytest.CaptureFixture[str], words: str) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if words in line]


async def test_dropped_receipts_are_counted_and_said_once_a_second(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    w = world()
    async with running(w):
        for _ in range(1000):
            await happens(w, ReceiptsDropped(2, "r/P.1", "it ends connections at it"))
        (line,) = lines(capsys, "receipts dropped")
        assert "r/P.1" in line
        await trio.sleep(1)
        await happens(w, ReceiptsDropped(1, "r/P.1", "it ends connections at it"))
        (line,) = lines(capsys, "receipts dropped")
        assert "not_logged_since=999" in line
        assert w.count("mqtt_receipts_dropped_total") == 2001
        assert state(w) == (True, "ok"), "ingest does not depend on them"


SILENT = "connected, subscribed, and nothing comes for 5 minutes"


async def test_a_silence_is_said_once(autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    w = world()
    async with running(w):
        w.broker.publish(payload())
        await trio.sleep(QUIET_S - 5)
        assert not lines(capsys, SILENT)
        await w.settle(*w.routed.parcels)
        await trio.sleep(10)
        (line,) = lines(capsys, SILENT)
        assert "ACL" in line
        w.link.reconnect()
        await trio.sleep(3 * QUIET_S)
        assert not lines(capsys, SILENT)
        w.broker.publish(payload(at_s=1))
        await trio.sleep(QUIET_S + 5)
        assert len(lines(capsys, SILENT)) == 1, "another silence"


@pytest.mark.parametrize("why", ["no connection", "refused", "held"])
async def test_where_nothing_can_come_it_is_no_silence(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    w = world(max_in_flight=1 if why == "held" else 100)
    async with running(w):
        match why:
            case "no connection":
                await happens(w, Disconnected(1, "lost"))
            case "refused":
                await happens(w, Disconnected(1, "lost"), Connected(2, session_present=True))
                await happens(w, SubscriptionRefused("b", "no"))
            case "held":
                w.broker.publish(payload())
        await trio.sleep(2 * QUIET_S)
        assert not lines(capsys, SILENT)
        if why == "held":
            await w.settle(*w.routed.parcels)
        else:
            w.link.connect()
        await trio.sleep(QUIET_S + 5)
        assert len(lines(capsys, SILENT)) == 1


async def test_a_reader_that_runs_again_is_not_connected_yet(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    w = world()
    async with running(w):
        pass
    w.broker.away = True
    async with running(w):
        await trio.sleep(2 * QUIET_S)
        assert not lines(capsys, SILENT)


async def test_a_broker_that_cannot_share_ends_the_daemon(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    w = world()
    w.broker.away = True
    async with running(w):
        await happens(w, CannotShare("the broker cannot, and this is why"))
        assert state(w) == (False, "the broker cannot, and this is why")
        said = lines(capsys, "the broker cannot, and this is why")
        assert len([line for line in said if "error" in line]) == 1
        assert w.gave_up == ["asked"]
