"""Races that crash: poison, what comes while one is down, parked ones, and a crash of the directory itself."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.fix import Fix
from actors.core.parcel import Parcel
from actors.core.timestamps import format_ms
from actors.dashboards.frames import Frame, Shared
from actors.races.directory import DOWN_LIMIT_MESSAGES
from actors.races.live_positions import Change, LivePositions
from actors.races.messages import FixesArrived, Subscribe
from actors.races.snapshots import snapshot_frame
from actors.races.state import RaceState
from actors.supervision.child import State
from tests.kit.making import BASE_MS, make_fix
from tests.races.race_world import STALE_MS, world

pytestmark = pytest.mark.usefixtures("both_ways")


class Touchy(LivePositions):
    """Crashes on any fix at latitude 13."""

    def changes(self, fixes: Iterable[Fix], now_ms: int) -> list[Change]:
        fixes = list(fixes)
        if any(fix.lat_e7 == 130_000_000 for fix in fixes):
            raise ZeroDivisionError("unlucky")
        return super().changes(fixes, now_ms)


async def test_poison_fix_crashes_twice_and_becomes_a_rejection(autojump_clock: MockClock) -> None:
    async with world(make_live_positions=lambda: Touchy(STALE_MS, 300_000), max_restarts=0) as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        good = [make_fix(at_s=i) for i in range(3)]
        bad = make_fix(at_s=1.5, lat=13.0)
        w.route(good[0], bad, good[1])
        await trio.sleep(20)
        w.route(good[2])
        await trio.sleep(1)
        assert w.state() is State.RUNNING
        assert w.races.children["R1"].restarts == 2
        assert [u["timestamp"] for u in viewer.updates()] == [format_ms(f.timestamp_ms) for f in good]
        first, second = w.handed_over()
        assert first.fixes == (good[0], good[1])
        assert [r.code for r in first.rejections] == ["poison"]
        assert second.fixes == (good[2],)


async def test_poison_that_was_stored_before_its_race_was_up_is_never_live(autojump_clock: MockClock) -> None:
    async with world(make_live_positions=lambda: Touchy(STALE_MS, 300_000), max_restarts=0) as w:
        good, bad = make_fix(at_s=1), make_fix(at_s=1.5, lat=13.0)
        w.route(good, bad)
        await trio.sleep(20)
        assert w.state() is State.RUNNING
        assert [parcel.fixes for parcel in w.handed_over()] == [(good, bad)]
        viewer = w.watch()
        await wait_all_tasks_blocked()
        (snapshot,) = viewer.named("race_snapshot")
        assert [position["timestamp"] for position in snapshot["positions"]] == [format_ms(good.timestamp_ms)]


async def test_what_comes_while_a_race_is_down_is_stored_at_once_and_shown_later(autojump_clock: MockClock) -> None:
    async with world(make_live_positions=lambda: Touchy(STALE_MS, 300_000)) as w:
        viewer = w.watch()
        w.route(make_fix(at_s=0))
        await trio.sleep(1)
        w.handed_over()
        w.route(make_fix(at_s=1, lat=13.0))
        w.route(make_fix(at_s=2))
        await wait_all_tasks_blocked()
        assert w.state() is State.BACKING_OFF
        w.route(make_fix(at_s=3))
        assert [p.fixes[0].timestamp_ms - BASE_MS for p in w.handed_over()] == [2000, 3000]
        await trio.sleep(20)
        assert [u["timestamp"] for u in viewer.updates()] == [
            format_ms(BASE_MS),
            format_ms(BASE_MS + 2000),
            format_ms(BASE_MS + 3000),
        ]
        (poisoned,) = w.handed_over()
        assert (poisoned.fixes, [r.code for r in poisoned.rejections]) == ((), ["poison"])


async def test_no_fix_waits_for_what_the_stores_know(autojump_clock: MockClock) -> None:
    """Thousands of races that start at once would hold up everybody's acknowledgements."""
    async with world() as w:
        w.history.delay_s = 2.0
        viewer = w.watch()
        w.route(make_fix(at_s=0))
        w.route(make_fix(at_s=1))
        await wait_all_tasks_blocked()
        assert [len(parcel.fixes) for parcel in w.handed_over()] == [1, 1]
        assert viewer.events == []
        await trio.sleep(3)
        (snapshot,) = viewer.named("race_snapshot")
        shown = [*snapshot["positions"], *viewer.updates()]
        assert shown[-1]["timestamp"] == format_ms(BASE_MS + 1000)
        assert w.handed_over() == []


async def test_a_long_queue_of_a_race_that_is_down_is_shortened(autojump_clock: MockClock) -> None:
    async with world(make_live_positions=lambda: Touchy(STALE_MS, 300_000)) as w:
        viewer = w.watch()
        w.route(make_fix(at_s=0))
        await trio.sleep(1)
        w.route(make_fix(at_s=1, lat=13.0))
        await wait_all_tasks_blocked()
        for i in range(DOWN_LIMIT_MESSAGES + 1):
            w.route(make_fix(at_s=10 + i))
        assert len(w.races.states["R1"].mailbox) == 1
        assert len(w.handed_over()) == DOWN_LIMIT_MESSAGES + 2
        assert viewer.outbox.behind_due(trio.current_time()) == ["R1"]


class Hopeless(LivePositions):
    """Fails whenever it looks for stale participants: a bug that no message is to blame for."""

    def next_due_ms(self) -> int | None:
        raise RuntimeError("always")


async def test_spent_budget_parks_only_the_live_view(autojump_clock: MockClock) -> None:
    async with world(make_live_positions=lambda: Hopeless(STALE_MS, 300_000)) as w:
        w.route(make_fix())
        await trio.sleep(60)
        assert w.state() is State.PARKED
        w.handed_over()
        w.route(make_fix(at_s=5))
        assert len(w.handed_over()) == 1, "history goes on"
        viewer = w.watch()
        assert viewer.named("error")[0]["code"] == "unavailable"
        w.route(make_fix(race_id="R2"))
        await trio.sleep(1)
        assert w.state() is State.PARKED


async def test_a_message_without_fixes_that_crashes_twice_is_given_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world() as w:
        w.route(make_fix())
        await wait_all_tasks_blocked()
        bad = w.watch()

        def broken(state: RaceState, positions: Iterable[Shared], now_ms: int, request: Subscribe) -> Frame:
            if request.outbox is bad.outbox:
                raise KeyError("snapshot")
            return snapshot_frame(state, positions, now_ms, request)

        monkeypatch.setattr("actors.races.snapshots.snapshot_frame", broken)
        good = w.watch()
        await trio.sleep(20)
        assert bad.events == []
        assert len(good.named("race_snapshot")) == 1
        assert w.state() is State.RUNNING


async def test_a_batch_that_crashes_as_a_whole_goes_to_history_alone(autojump_clock: MockClock) -> None:
    class Crowded(LivePositions):
        """Crashes on more than one fix at a time: no single fix is at fault."""

        def changes(self, fixes: Iterable[Fix], now_ms: int) -> list[Change]:
            fixes = list(fixes)
            if len(fixes) > 1:
                raise IndexError("crowded")
            return super().changes(fixes, now_ms)

    async with world(make_live_positions=lambda: Crowded(STALE_MS, 300_000), max_restarts=0) as w:
        w.route(make_fix(at_s=-1))
        await trio.sleep(1)
        w.handed_over()
        w.route(make_fix(at_s=0), make_fix(at_s=1))
        await trio.sleep(20)
        assert w.state() is State.RUNNING
        assert [len(p.fixes) for p in w.handed_over()] == [2]
        w.route(make_fix(at_s=2))
        await trio.sleep(1)
        assert [len(p.fixes) for p in w.handed_over()] == [1]


async def test_poison_in_the_stores_is_left_out(autojump_clock: MockClock) -> None:
    """It got there while its race was down."""
    async with world(make_live_positions=lambda: Touchy(STALE_MS, 300_000), max_restarts=0) as w:
        bad, good = make_fix(lat=13.0), make_fix("P2")
        w.store.rows = {fix.id: fix for fix in (bad, good)}
        viewer = w.watch()
        await trio.sleep(20)
        assert [p["participantId"] for p in viewer.named("race_snapshot")[0]["positions"]] == ["P2"]
        assert w.state() is State.RUNNING


async def test_a_crash_of_the_directory_keeps_every_race(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        w.route(make_fix(at_s=0))
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            # A second run stands for the restart: the first one's nursery is still there, so stop its race first.
            w.races.children["R1"].scope.cancel()
            await nursery.start(w.races.run)
            w.route(make_fix(at_s=1))
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert len(viewer.updates()) == 2
        assert len(viewer.named("race_snapshot")) == 1


async def test_what_no_store_answered_is_asked_again_after_a_crash_of_the_directory(autojump_clock: MockClock) -> None:
    async with world() as w:
        hidden = make_fix("P2", at_s=0)
        w.store.rows = {hidden.id: hidden}
        w.history.down = True
        viewer = w.watch()
        w.route(make_fix(at_s=0))
        await trio.sleep(1)
        w.races.children["R1"].scope.cancel()
        async with trio.open_nursery() as nursery:
            await nursery.start(w.races.run)
            w.history.down = False
            await trio.sleep(10)
            assert [u["participantId"] for u in viewer.updates()] == ["P001", "P2"]
            nursery.cancel_scope.cancel()


async def test_what_waits_while_the_directory_itself_is_down_reaches_history(autojump_clock: MockClock) -> None:
    """Also the fix that was in the mailbox when it went down, and a position hidden by a clock that is ahead."""
    async with world() as w:
        viewer = w.watch()
        w.route(make_fix(at_s=0))
        await trio.sleep(1)
        w.races.children["R1"].scope.cancel()
        w.route(make_fix(at_s=1))
        await wait_all_tasks_blocked()
        for i in range(DOWN_LIMIT_MESSAGES + 1):
            w.route(make_fix(at_s=10 + i))
        w.route(make_fix(at_s=9999, arrived_s=10))
        async with trio.open_nursery() as nursery:
            await nursery.start(w.races.run)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert {p.id for p in w.handed_over()} == {(i, 0) for i in range(1, w.parcels + 1)}
        w.races.subscribe("R1", viewer.outbox)
        live = w.races.states["R1"].live_positions.newest["P001"]
        assert live.timestamp_ms == BASE_MS + (10 + DOWN_LIMIT_MESSAGES) * 1000


async def test_what_was_on_its_way_to_a_race_that_is_cancelled_is_done(autojump_clock: MockClock) -> None:
    """The mailbox had given it to the race, which had not run yet."""
    async with world() as w:
        w.route(make_fix(at_s=0))
        await wait_all_tasks_blocked()
        w.races.states["R1"].mailbox.post(FixesArrived(Parcel((99, 0), "R1", (make_fix(at_s=1),)), 0.0))
        w.races.children["R1"].scope.cancel()
        await wait_all_tasks_blocked()
        assert w.state() is State.STOPPED
        assert [parcel.id for parcel in w.handed_over()] == [(1, 0), (99, 0)]
        assert w.all_live() == [make_fix(at_s=1)]
        assert len(w.races.states["R1"].mailbox) == 0


async def test_a_parked_race_forgets_dashboards_that_go(autojump_clock: MockClock) -> None:
    async with world(make_live_positions=lambda: Hopeless(STALE_MS, 300_000)) as w:
        viewer = w.watch()
        w.route(make_fix())
        await trio.sleep(60)
        assert w.state() is State.PARKED
        for _ in range(3):
            viewer.outbox.forget("R1")
            w.races.unsubscribe("R1", viewer.outbox)
            w.races.subscribe("R1", viewer.outbox)
        assert w.races.states["R1"].outboxes == {}
        assert len(w.races.states["R1"].mailbox) == 0
