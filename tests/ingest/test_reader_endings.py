"""The reader when a connection, a session or its own time ends."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.parcel import Parcel
from actors.ingest.messages import StopTaking
from actors.mqtt.events import (
    BrokerDropped,
    CopiesDropped,
    Disconnected,
    MessagesArrived,
    SubscriptionRefused,
    TakenOver,
)
from tests.ingest.reader_world import Routed, payload, running, world


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


async def test_what_comes_again_on_a_new_connection_is_acknowledged_when_the_first_copy_is_stored(
    autojump_clock: MockClock,
) -> None:
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
        assert w.broker.acknowledged == []
        await w.settle(*w.routed.parcels)
        assert w.broker.acknowledged == [1]
        assert w.health.components["broker"].up
        assert w.count("mqtt_session_lost_total") == 0


async def test_reconnecting_while_nothing_can_be_stored_adds_nothing(autojump_clock: MockClock) -> None:
    w = world(max_in_flight=10)
    async with running(w):
        for second in range(3):
            w.broker.publish(payload(at_s=second))
        w.broker.publish([payload(at_s=10), {"race_id": 7}])
        w.broker.publish({"race_id": 8})
        for times in range(1, 21):
            w.link.drop()
            w.link.connect()
            await wait_all_tasks_blocked()
            assert w.count("fixes_in_flight") == 6
            assert w.count("mqtt_copies_total") == 5 * times
        w.broker.publish(payload(at_s=5))
        w.link.drop()
        w.link.connect()
        await wait_all_tasks_blocked()
        assert w.count("fixes_in_flight") == 7
        assert w.link.holds == []
        assert w.count("fixes_received_total") == 7
        assert w.count("messages_received_total") == 6
        refused = [w.refused.receive_nowait() for _ in range(w.refused.statistics().current_buffer_used)]
        await w.settle(*w.routed.parcels, *(parcel for parcels in refused for parcel in parcels))
        assert w.broker.acknowledged == [1, 2, 3, 4, 5, 6]
        assert w.count("fixes_in_flight") == 0


async def test_a_crash_may_have_lost_what_is_in_flight(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world()

    def crash(routed: Routed, parcel: Parcel, now: float) -> None:
        raise RuntimeError("between the ledger and the race")

    monkeypatch.setattr(Routed, "route", crash)
    w.broker.publish(payload())
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True, allow_unwrapped=True):
        await w.reader.run()
    monkeypatch.undo()
    w.reader.state.after_crash()
    async with running(w):
        await w.settle(*w.routed.parcels)
        assert w.broker.acknowledged == [1]


async def test_copies_that_the_driver_has_dropped_are_counted(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.inbox.send_nowait(CopiesDropped(1024))
        await wait_all_tasks_blocked()
        assert w.count("mqtt_copies_total") == 1024


async def test_a_lost_session_is_counted(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.link.drop()
        w.broker.session_present = False
        w.link.connect()
        await wait_all_tasks_blocked()
        assert w.count("mqtt_session_lost_total") == 1


async def test_what_the_broker_drops_is_counted_and_said_at_most_once_a_minute(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    w = world()
    async with running(w):
        for total, wait_s in ((1000, 1), (1620, 10), (1630, 60), (1640, 1)):
            w.inbox.send_nowait(BrokerDropped(total))
            await trio.sleep(wait_s)
        assert w.count("broker_dropped_total") == 640
        assert w.count("messages_received_total") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "level='error'" in line]
    assert [line.rpartition(" ")[2] for line in lines] == ["dropped=620", "dropped=20"]
    assert "max_queued_messages" in lines[0]


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
