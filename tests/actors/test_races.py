"""The directory and its races: start, snapshot and stream, staleness, retirement, crashes, poison, eviction."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.fix import Fix
from actors.core.restart import Budget
from actors.core.standing import Change, Standing
from actors.core.timestamps import format_ms
from actors.live_state import LiveMailbox
from actors.messages import Parcel, PersistenceMessage, Subscribe
from actors.metrics import Metrics
from actors.race import FRAME_BYTES, Race
from actors.race_cell import RaceCell
from actors.races import DOWN_LIMIT_MESSAGES, Races
from actors.restore import Restorer
from actors.supervision import State
from tests.actors.fakes import FakeCache, FakeHistory, FakeStore, Viewer
from tests.making import BASE_MS, make_fix

STALE_MS = 30_000
IDLE_S = 100.0
WINDOW_S = 0.1


def now_ms() -> int:
    return BASE_MS + round(trio.current_time() * 1000)


@attrs.define(eq=False)
class World:
    """The directory with everything around it faked."""

    races: Races
    persistence: trio.MemoryReceiveChannel[PersistenceMessage]
    live: LiveMailbox
    store: FakeStore
    history: FakeHistory
    cache: FakeCache
    standings: list[Standing]
    parcels: int = 0

    def route(self, *fixes: Fix) -> None:
        by_race: dict[str, list[Fix]] = {}
        for fix in fixes:
            by_race.setdefault(fix.race_id, []).append(fix)
        for race_id, group in by_race.items():
            self.parcels += 1
            self.races.route(Parcel((self.parcels, 0), race_id, tuple(group)))

    def watch(self, race_id: str = "R1") -> Viewer:
        viewer = Viewer()
        viewer.outbox.expect(race_id)
        self.races.subscribe(race_id, viewer.outbox)
        return viewer

    def handed_over(self) -> list[Parcel]:
        found: list[Parcel] = []
        while self.persistence.statistics().current_buffer_used:
            found.append(self.persistence.receive_nowait())
        return found

    def state(self, race_id: str = "R1") -> State | None:
        child = self.races.children.get(race_id)
        return child.state if child else None


MakeStanding = Callable[[], Standing]


@asynccontextmanager
async def world(
    max_races: int = 100, make_standing: MakeStanding | None = None, max_restarts: int = 2, window_s: float = WINDOW_S
) -> AsyncIterator[World]:
    store = FakeStore()
    history, cache, live, metrics = FakeHistory(store), FakeCache(), LiveMailbox(), Metrics()
    send, receive = trio.open_memory_channel[PersistenceMessage](math.inf)
    restore = Restorer(history, cache, 300_000)
    standings: list[Standing] = []

    def standing() -> Standing:
        standings.append((make_standing or (lambda: Standing(STALE_MS, 300_000)))())
        return standings[-1]

    def race(cell: RaceCell) -> Race:
        return Race(cell, restore, send, live, metrics, now_ms, window_s, IDLE_S)

    budget = Budget(max_restarts, 30, 1, 4)
    races = Races(race, standing, restore, send, live, metrics, now_ms, budget, max_races)
    async with trio.open_nursery() as nursery:
        await nursery.start(races.run)
        yield World(races, receive, live, store, history, cache, standings)
        nursery.cancel_scope.cancel()


async def test_first_fix_starts_a_race_that_hands_over_and_goes_live(autojump_clock: MockClock) -> None:
    async with world() as w:
        fix = make_fix()
        w.route(fix)
        await wait_all_tasks_blocked()
        assert [p.fixes for p in w.handed_over()] == [(fix,)]
        assert [p.fix for p in w.live.take(9)] == [fix]
        viewer = w.watch()
        await wait_all_tasks_blocked()
        (snapshot,) = viewer.named("race_snapshot")
        assert snapshot["raceId"] == "R1"
        assert [p["participantId"] for p in snapshot["positions"]] == ["P001"]
        assert snapshot["serverTime"] == format_ms(now_ms())


async def test_stream_is_gapless_after_the_snapshot_and_windows_join_changes(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        assert viewer.named("race_snapshot")[0]["positions"] == []
        assert w.state() is None, "a race without fixes costs no actor"
        fixes = [make_fix(at_s=i) for i in range(5)]
        w.route(*fixes[:1])
        await trio.sleep(1)
        assert [e["event"] for e in viewer.events[1:]] == ["position_update"]
        w.route(*fixes[1:3])
        w.route(fixes[3], fixes[2])
        second = w.watch()
        await trio.sleep(1)
        w.route(fixes[4])
        await trio.sleep(1)
        assert [u["timestamp"] for u in viewer.updates()] == [format_ms(f.timestamp_ms) for f in fixes]
        (snapshot,) = second.named("race_snapshot")
        assert [p["timestamp"] for p in snapshot["positions"]] == [format_ms(fixes[3].timestamp_ms)]
        assert [u["timestamp"] for u in second.updates()] == [format_ms(fixes[4].timestamp_ms)]


async def test_window_zero_sends_each_change_at_once(autojump_clock: MockClock) -> None:
    async with world(window_s=0) as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        w.route(make_fix(at_s=0), make_fix(at_s=1))
        await wait_all_tasks_blocked()
        assert [e["event"] for e in viewer.events] == ["race_snapshot", "position_update", "position_update"]


async def test_a_burst_leaves_in_frames_of_bounded_size(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        fixes = [make_fix(at_s=i) for i in range(3000)]
        for i in range(0, 3000, 1000):
            w.route(*fixes[i : i + 1000])
        await trio.sleep(1)
        assert [u["timestamp"] for u in viewer.updates()] == [format_ms(f.timestamp_ms) for f in fixes]
        sizes = [len(entry["data"]["positions"]) for entry in viewer.events[1:]]
        assert min(sizes) >= 2
        assert max(sizes) * 200 < 1.1 * FRAME_BYTES


async def test_unsubscribed_gets_no_more(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        w.route(make_fix(at_s=0))
        await trio.sleep(1)
        viewer.outbox.forget("R1")
        w.races.unsubscribe("R1", viewer.outbox)
        w.route(make_fix(at_s=1))
        await trio.sleep(1)
        assert len(viewer.updates()) == 1
        assert w.races.cells["R1"].outboxes == {}


async def test_unsubscribing_from_an_empty_race_leaves_nothing(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch("R9")
        await wait_all_tasks_blocked()
        viewer.outbox.forget("R9")
        w.races.unsubscribe("R9", viewer.outbox)
        w.races.unsubscribe("never seen", viewer.outbox)
        assert w.races.cells == {}


async def test_stale_is_told_once_and_snapshots_agree(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        w.route(make_fix(at_s=0), make_fix("P2", at_s=0, status=2))
        await trio.sleep(STALE_MS / 1000 - 1)
        assert viewer.named("participant_stale") == []
        await trio.sleep(2)
        assert viewer.named("participant_stale") == [
            {"raceId": "R1", "participantId": "P001", "lastTimestamp": format_ms(BASE_MS)}
        ]
        late = w.watch()
        await wait_all_tasks_blocked()
        positions = late.named("race_snapshot")[0]["positions"]
        assert {p["participantId"]: p["stale"] for p in positions} == {"P001": True, "P2": False}
        await trio.sleep(60)
        assert len(viewer.named("participant_stale")) == 1


async def test_restored_from_the_greater_of_both_stores(autojump_clock: MockClock) -> None:
    async with world() as w:
        old, new = make_fix(at_s=-20), make_fix(at_s=-10)
        other = make_fix("P2", at_s=-500)
        w.store.rows = {f.id: f for f in (old, other)}
        w.cache.live = {("R1", "P001"): new}
        viewer = w.watch()
        await wait_all_tasks_blocked()
        positions = viewer.named("race_snapshot")[0]["positions"]
        assert {(p["participantId"], p["timestamp"], p["stale"]) for p in positions} == {
            ("P001", format_ms(new.timestamp_ms), False),
            ("P2", format_ms(other.timestamp_ms), True),
        }
        w.route(old)
        await trio.sleep(1)
        assert viewer.updates() == []


async def test_live_without_postgresql_and_completed_when_it_is_back(autojump_clock: MockClock) -> None:
    async with world() as w:
        hidden = make_fix("P2", at_s=0)
        w.store.rows = {hidden.id: hidden}
        w.history.down = True
        viewer = w.watch()
        w.route(make_fix(at_s=0))
        await trio.sleep(1)
        assert [u["participantId"] for u in viewer.updates()] == ["P001"]
        w.history.down = False
        await trio.sleep(10)
        assert [u["participantId"] for u in viewer.updates()] == ["P001", "P2"]


async def test_retires_when_idle_and_unwatched_and_comes_back(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        fix = make_fix(at_s=0)
        w.store.rows = {fix.id: fix}
        w.route(fix)
        await trio.sleep(3 * IDLE_S)
        assert w.state() is State.RUNNING, "somebody watches"
        viewer.outbox.forget("R1")
        w.races.unsubscribe("R1", viewer.outbox)
        await trio.sleep(1)
        assert w.state() is None
        assert w.races.cells == {}
        again = w.watch()
        await wait_all_tasks_blocked()
        assert len(again.named("race_snapshot")[0]["positions"]) == 1
        assert w.state() is State.RUNNING


async def test_positions_for_http_come_from_the_actor_or_from_the_stores(autojump_clock: MockClock) -> None:
    async with world() as w:
        stored = make_fix("P7", race_id="R2")
        w.store.rows = {stored.id: stored}
        w.route(make_fix())
        await wait_all_tasks_blocked()
        assert b'"P001"' in b",".join(await w.races.positions("R1"))
        assert b'"P7"' in b",".join(await w.races.positions("R2"))
        assert await w.races.positions("R3") == []
        assert "R2" not in w.races.children


class Touchy(Standing):
    """Crashes on any fix at latitude 13."""

    def changes(self, fixes: Iterable[Fix], now_ms: int) -> list[Change]:
        fixes = list(fixes)
        if any(fix.lat_e7 == 130_000_000 for fix in fixes):
            raise ZeroDivisionError("unlucky")
        return super().changes(fixes, now_ms)


async def test_poison_fix_crashes_twice_and_becomes_a_rejection(autojump_clock: MockClock) -> None:
    async with world(make_standing=lambda: Touchy(STALE_MS, 300_000), max_restarts=0) as w:
        viewer = w.watch()
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


async def test_what_comes_while_a_race_is_down_is_stored_at_once_and_shown_later(autojump_clock: MockClock) -> None:
    async with world(make_standing=lambda: Touchy(STALE_MS, 300_000)) as w:
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


async def test_a_long_queue_of_a_race_that_is_down_is_shortened(autojump_clock: MockClock) -> None:
    async with world(make_standing=lambda: Touchy(STALE_MS, 300_000)) as w:
        viewer = w.watch()
        w.route(make_fix(at_s=0))
        await trio.sleep(1)
        w.route(make_fix(at_s=1, lat=13.0))
        await wait_all_tasks_blocked()
        for i in range(DOWN_LIMIT_MESSAGES + 1):
            w.route(make_fix(at_s=10 + i))
        assert len(w.races.cells["R1"].mailbox) == 1
        assert len(w.handed_over()) == DOWN_LIMIT_MESSAGES + 2
        assert viewer.outbox.behind_due(trio.current_time()) == ["R1"]


class Hopeless(Standing):
    """Fails whenever it looks for stale participants: a bug that no message is to blame for."""

    def next_due_ms(self) -> int | None:
        raise RuntimeError("always")


async def test_spent_budget_parks_only_the_live_view(autojump_clock: MockClock) -> None:
    async with world(make_standing=lambda: Hopeless(STALE_MS, 300_000)) as w:
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
        real = Race._snapshot_frame

        def broken(self: Race, request: Subscribe) -> bytes:
            if request.outbox is bad.outbox:
                raise KeyError("snapshot")
            return real(self, request)

        monkeypatch.setattr(Race, "_snapshot_frame", broken)
        good = w.watch()
        await trio.sleep(20)
        assert bad.events == []
        assert len(good.named("race_snapshot")) == 1
        assert w.state() is State.RUNNING


async def test_a_batch_that_crashes_as_a_whole_goes_to_history_alone(autojump_clock: MockClock) -> None:
    class Crowded(Standing):
        """Crashes on more than one fix at a time: no single fix is at fault."""

        def changes(self, fixes: Iterable[Fix], now_ms: int) -> list[Change]:
            fixes = list(fixes)
            if len(fixes) > 1:
                raise IndexError("crowded")
            return super().changes(fixes, now_ms)

    async with world(make_standing=lambda: Crowded(STALE_MS, 300_000), max_restarts=0) as w:
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


async def test_beyond_max_races_the_quietest_goes_and_history_goes_on(autojump_clock: MockClock) -> None:
    async with world(max_races=2) as w:
        watcher = w.watch("R1")
        await wait_all_tasks_blocked()
        w.route(make_fix(race_id="R1"))
        await trio.sleep(1)
        w.route(make_fix(race_id="R2"))
        await trio.sleep(1)
        w.route(make_fix(race_id="R3"))
        await trio.sleep(1)
        assert set(w.races.children) == {"R2", "R3"}
        later = make_fix(race_id="R1", at_s=3)
        w.route(later)
        await trio.sleep(1)
        assert set(w.races.children) == {"R1", "R3"}
        assert watcher.outbox.behind_due(trio.current_time()) == ["R1"], "its race came back: shown anew"
        w.races.subscribe("R1", watcher.outbox, None, resync=True)
        await trio.sleep(1)
        assert [u["timestamp"] for u in watcher.updates()] == [format_ms(BASE_MS)]
        (position,) = watcher.named("race_snapshot")[-1]["positions"]
        assert position["timestamp"] == format_ms(later.timestamp_ms)
        assert len(w.handed_over()) == 4


async def test_what_is_asked_of_a_race_in_the_moment_it_is_evicted_is_answered(autojump_clock: MockClock) -> None:
    async with world(max_races=1) as w:
        leaving = w.watch("R1")
        await wait_all_tasks_blocked()
        w.route(make_fix(race_id="R1"))
        await trio.sleep(1)
        coming = w.watch("R1")
        leaving.outbox.forget("R1")
        w.races.unsubscribe("R1", leaving.outbox)
        w.route(make_fix(race_id="R2"))
        await trio.sleep(1)
        assert [e["event"] for e in coming.events] == ["error"]
        assert set(w.races.cells) == {"R2"}, "nobody watches R1"


async def test_a_message_that_comes_when_a_race_is_due_to_retire_is_taken(mock_clock: MockClock) -> None:
    async with world() as w:
        w.route(make_fix(at_s=0))
        await wait_all_tasks_blocked()
        w.handed_over()
        mock_clock.jump(IDLE_S)
        await trio.lowlevel.checkpoint()  # the race has been woken by its deadline, and has not looked yet
        w.route(make_fix(at_s=1))
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert len(w.handed_over()) == 1


async def test_changes_that_nobody_watches_any_more_do_not_keep_a_race_awake(mock_clock: MockClock) -> None:
    async with world(window_s=10 * IDLE_S) as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        w.route(make_fix(at_s=0, status=2))  # nobody to become stale
        await wait_all_tasks_blocked()
        viewer.outbox.forget("R1")
        w.races.unsubscribe("R1", viewer.outbox)
        await wait_all_tasks_blocked()
        mock_clock.jump(IDLE_S)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert w.state() is None


async def test_poison_in_the_stores_is_left_out(autojump_clock: MockClock) -> None:
    """It got there while its race was down."""
    async with world(make_standing=lambda: Touchy(STALE_MS, 300_000), max_restarts=0) as w:
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
