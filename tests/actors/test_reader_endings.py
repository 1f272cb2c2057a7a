"""The reader when a connection, a session or its own time ends."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.messages import Disconnected, MessagesArrived, StopTaking, SubscriptionRefused, TakenOver
from tests.actors.reader_world import payload, running, world


async def test_what_comes_late_from_an_old_connection_is_stored_and_not_acknowledged(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.link.drop()
        w.link.connect()
        w.broker.publish(payload(at_s=0))
        raw = json.dumps(payload(at_s=1)).encode()
        w.inbox.send_nowait(MessagesArrived(1, ((b"tracking/x/position", raw),), (1,), len(raw)))
        await wait_all_tasks_blocked()
        new, old = w.routed.parcels
        await w.settle(old)
        assert w.broker.acknowledged == []
        await w.settle(new)
        assert w.broker.acknowledged == [1]


async def test_a_new_connection_starts_over_and_old_settlements_acknowledge_nothing(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.broker.publish(payload())
        await wait_all_tasks_blocked()
        link = w.link
        link.drop()
        link.post(Disconnected(1, "connection reset"))
        await wait_all_tasks_blocked()
        assert w.health.components["broker"].detail == "connection reset"
        link.connect()
        await wait_all_tasks_blocked()
        old, new = w.routed.parcels
        assert old.fixes == new.fixes
        await w.settle(old)
        assert w.broker.acknowledged == []
        await w.settle(new)
        assert w.broker.acknowledged == [1]
        assert w.health.components["broker"].up
        assert w.count("mqtt_session_lost_total") == 0


async def test_a_lost_session_is_counted(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.link.drop()
        w.broker.session_present = False
        w.link.connect()
        await wait_all_tasks_blocked()
        assert w.count("mqtt_session_lost_total") == 1


async def test_a_refused_subscription_shows_as_broker_down(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.inbox.send_nowait(SubscriptionRefused("tracking/#", "not authorized"))
        await wait_all_tasks_blocked()
        assert w.health.components["broker"].detail == "subscription tracking/# refused: not authorized"


async def test_thrown_out_for_good_the_daemon_is_asked_to_stop(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    w = world()
    async with running(w):
        w.inbox.send_nowait(TakenOver("me", times=3, within_s=5))
        await wait_all_tasks_blocked()
        assert w.health.components["broker"].detail == "another client seems to use our client_id 'me'"
        assert w.gave_up == ["asked"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "level='error'" in line]
    assert "our client_id 'me': thrown out 3 times in a row within 5 s of CONNACK, stopping" in line


async def test_a_stuck_message_is_sent_again_while_postgresql_is_well(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.broker.publish(payload())
        await trio.sleep(100)
        assert w.link.epoch == 1, "PostgreSQL is away: it has to wait"
        w.health.up("postgres")
        await trio.sleep(25)
        assert w.link.epoch == 1, "PostgreSQL has only just come back"
        await trio.sleep(10)
        assert w.link.epoch == 2
        assert len(w.routed.parcels) == 2
        await w.settle(w.routed.parcels[1])
        assert w.broker.acknowledged == [1]
        await trio.sleep(100)
        assert w.link.epoch == 2


async def test_a_backlog_is_not_stuck_as_long_as_it_moves(autojump_clock: MockClock) -> None:
    """Sent again it would be twice as long, and for ever older than what makes one stuck."""
    w = world()
    async with running(w):
        for second in range(20):
            w.broker.publish(payload(at_s=second))
            await wait_all_tasks_blocked()
        await trio.sleep(100)
        w.health.up("postgres")
        for parcel in list(w.routed.parcels):
            await trio.sleep(20)
            await w.settle(parcel)
        assert w.link.epoch == 1
        assert len(w.broker.acknowledged) == 20


async def test_time_that_the_daemon_itself_was_stopped_makes_nothing_stuck(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.health.up("postgres")
        w.broker.publish(payload())
        await trio.sleep(1)
        autojump_clock.jump(60)
        await trio.sleep(2)
        assert w.link.epoch == 1
        await w.settle(*w.routed.parcels)
        await trio.sleep(100)
        assert w.link.epoch == 1


async def test_stop_takes_no_more_and_ends_when_all_is_acknowledged(autojump_clock: MockClock) -> None:
    w = world()
    async with trio.open_nursery() as nursery:
        await nursery.start(w.reader.run)
        w.broker.publish(payload())
        await wait_all_tasks_blocked()
        w.inbox.send_nowait(StopTaking())
        await wait_all_tasks_blocked()
        w.broker.publish(payload(at_s=1))
        await trio.sleep(5)
        assert len(w.routed.parcels) == 1
        assert not w.link.disconnected
        await w.settle(*w.routed.parcels)
    assert w.link.disconnected
    assert w.broker.acknowledged == [1]


async def test_stop_with_nothing_in_flight_ends_at_once(autojump_clock: MockClock) -> None:
    w = world()
    async with trio.open_nursery() as nursery:
        await nursery.start(w.reader.run)
        w.inbox.send_nowait(StopTaking())
    assert w.link.disconnected
