"""A row that was shown live and is refused by PostgreSQL in the end: its race begins anew from the stores."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.fix import Fix
from actors.core.rejection import poison
from actors.races.live_positions import Change, LivePositions
from actors.races.restore import RESTORE_S
from actors.supervision.child import State
from tests.kit.making import make_fix
from tests.races.race_world import IDLE_S, STALE_MS, World, world

pytestmark = pytest.mark.usefixtures("both_ways")

OLD, REFUSED = make_fix(at_s=-1, lat=1), make_fix(at_s=0, lat=85)


def reject(w: World, *fixes: Fix) -> None:
    """As persistence does it."""
    rows = [poison(fix, "") for fix in fixes]
    w.store.rejected |= {row.id: row for row in rows}
    w.races.rows_refused(fixes)


async def shown_and_refused(w: World) -> None:
    w.store.rows = {OLD.id: OLD}
    w.route(REFUSED)
    await trio.sleep(1)
    reject(w, REFUSED)


async def test_dashboards_get_a_resync_and_redis_what_the_stores_know(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        await shown_and_refused(w)
        viewer.catch_up(w.races)
        await trio.sleep(1)
        assert viewer.resyncs() == [[1.0]]
        assert [u["latitude"] for u in viewer.updates()] == [85.0]
        assert w.live.take(9) == ([OLD], {"R1"})
        assert len(w.handed_over()) == 1
        assert w.all_live() == [OLD]


async def test_what_comes_while_the_stores_are_read_is_shown_after_the_snapshot(autojump_clock: MockClock) -> None:
    """Also one that is older than the refused one, and was not live for that."""
    async with world() as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        await shown_and_refused(w)
        w.history.delay_s = 1
        viewer.catch_up(w.races)
        await trio.sleep(0.5)
        between = make_fix(at_s=-0.5, lat=2)
        w.route(between, make_fix("P2", lat=3))
        asking = w.watch()
        positions = trio.current_time()
        assert b'"latitude":1.0' in await w.races.positions("R1"), "by HTTP"
        assert trio.current_time() == positions + 1
        await trio.sleep(1)
        assert viewer.resyncs() == [[1.0]]
        assert [u["latitude"] for u in viewer.updates()] == [85.0, 2.0, 3.0]
        assert len(asking.named("race_snapshot")[0]["positions"]) == 2
        assert [parcel.fixes for parcel in w.handed_over()] == [(REFUSED,), (between, make_fix("P2", lat=3))]


async def test_where_nobody_watches_the_stores_are_read_at_once(autojump_clock: MockClock) -> None:
    async with world() as w:
        await shown_and_refused(w)
        await wait_all_tasks_blocked()
        assert w.all_live() == [OLD]


async def test_asked_in_the_moment_of_the_refusal_it_shows_what_the_stores_know(autojump_clock: MockClock) -> None:
    """The question is on its way to the race when it has to begin anew: it waits."""
    async with world() as w:
        w.store.rows = {OLD.id: OLD}
        w.route(REFUSED)
        await trio.sleep(1)
        asking = w.watch()
        reject(w, REFUSED)
        await trio.sleep(1)
        (snapshot,) = asking.named("race_snapshot")
        assert [p["latitude"] for p in snapshot["positions"]] == [1.0]
        assert asking.updates() == []


async def test_what_comes_in_the_moment_of_the_refusal_waits_for_the_stores(autojump_clock: MockClock) -> None:
    async with world() as w:
        await shown_and_refused(w)
        w.route(make_fix("P2"))
        assert b'"latitude":1.0' in await w.races.positions("R1"), "by HTTP"
        await trio.sleep(1)
        assert w.all_live() == [OLD, make_fix("P2")]


async def test_who_has_no_other_position_is_gone(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        w.route(REFUSED)
        await trio.sleep(1)
        reject(w, REFUSED)
        viewer.catch_up(w.races)
        await trio.sleep(STALE_MS / 1000)
        assert viewer.resyncs() == [[]]
        assert not viewer.named("participant_stale")
        assert w.state() is None, "a race without fixes costs no actor"


async def test_sent_again_or_overtaken_it_changes_nothing(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        await shown_and_refused(w)
        viewer.catch_up(w.races)
        await trio.sleep(10)
        for _ in range(2):
            w.route(REFUSED)
            await trio.sleep(1)
            reject(w, REFUSED)
        overtaken, newest = make_fix(at_s=20, lat=84), make_fix(at_s=21, lat=4)
        w.store.rows[newest.id] = newest
        w.route(overtaken, newest)
        await wait_all_tasks_blocked()
        reject(w, overtaken)
        await trio.sleep(10)
        viewer.catch_up(w.races)
        await trio.sleep(10)
        assert viewer.resyncs() == [[1.0]]
        assert [u["latitude"] for u in viewer.updates()] == [85.0, 84.0, 4.0]


async def test_while_postgresql_does_not_answer_the_others_stay(autojump_clock: MockClock) -> None:
    """They are in Redis, which is not emptied before it was read."""
    async with world() as w:
        other = make_fix("P2", lat=3)
        viewer = w.watch()
        await wait_all_tasks_blocked()
        w.route(other)
        w.cache.live = {("R1", "P2"): other, ("R1", "P001"): REFUSED}
        await shown_and_refused(w)
        w.history.delay_s = 2 * RESTORE_S
        viewer.catch_up(w.races)
        assert b'"P2"' in await w.races.positions("R1"), "by HTTP"
        await trio.sleep(RESTORE_S)
        assert viewer.resyncs() == [[3.0]]
        w.history.delay_s = 0
        await trio.sleep(20)
        assert [u["latitude"] for u in viewer.updates()][-1] == 1.0


async def test_one_that_redis_brought_while_postgresql_was_away_goes_when_it_is_back(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.store.rows = {OLD.id: OLD}
        w.store.rejected = {(row := poison(REFUSED, "")).id: row}
        w.history.down = True
        w.cache.live = {("R1", "P001"): REFUSED}
        viewer = w.watch()
        await trio.sleep(1)
        assert [p["latitude"] for p in viewer.named("race_snapshot")[0]["positions"]] == [85.0]
        w.history.down = False
        await trio.sleep(20)
        viewer.catch_up(w.races)
        await trio.sleep(1)
        assert viewer.resyncs() == [[1.0]]
        assert w.live.take(9) == ([OLD], {"R1"})


async def test_what_a_race_had_in_hand_when_it_crashed_is_neither_lost_nor_left_out(autojump_clock: MockClock) -> None:
    class Fragile(LivePositions):
        crashes = 0

        def changes(self, fixes: Iterable[Fix], now_ms: int) -> list[Change]:
            if Fragile.crashes:
                Fragile.crashes -= 1
                raise RuntimeError("crashed")
            return super().changes(fixes, now_ms)

    async with world(make_live_positions=lambda: Fragile(STALE_MS, 300_000)) as w:
        await shown_and_refused(w)
        await trio.sleep(10)
        Fragile.crashes = 1
        in_hand = make_fix("P3", lat=3)
        w.route(in_hand)
        await wait_all_tasks_blocked()
        second = make_fix(at_s=1, lat=86)
        reject(w, second)  # before it is run again
        assert not w.races.states["R1"].restored
        await trio.sleep(10)
        assert w.all_live() == [in_hand, OLD]
        assert w.live.take(9) == ([in_hand, OLD], {"R1"})
        assert [parcel.fixes for parcel in w.handed_over()] == [(REFUSED,), (in_hand,)]


async def test_a_race_that_is_evicted_while_it_reads_again_is_forgotten_in_redis(autojump_clock: MockClock) -> None:
    async with world(max_races=1) as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        w.history.delay_s = 1
        await shown_and_refused(w)
        await trio.sleep(0.5)
        w.live.take(9)
        w.route(make_fix(race_id="R2"))
        assert w.live.take(9) == ([], {"R1"})
        w.cache.live, w.history.down = {("R1", "P001"): REFUSED}, True
        viewer.catch_up(w.races)
        await trio.sleep(5)
        assert viewer.resyncs() == [[]], "it is still known what was refused"
        w.history.down = False
        await trio.sleep(10)
        assert [u["latitude"] for u in viewer.updates()] == [85.0, 1.0]


@pytest.mark.parametrize("parked", [False, True])
async def test_where_the_live_view_is_stopped_http_and_redis_forget_it(autojump_clock: MockClock, parked: bool) -> None:
    async with world(max_restarts=0) as w:
        w.store.rows = {OLD.id: OLD}
        w.route(REFUSED)
        await trio.sleep(1)
        w.live.take(9)
        if parked:
            w.races.children["R1"].scope.cancel()
            await trio.sleep(1)
            w.races.children["R1"].state = State.PARKED
            w.races._race_parked(w.races.states["R1"])
        else:
            await trio.sleep(IDLE_S + STALE_MS)
            assert w.state() is None
        reject(w, REFUSED)
        await trio.sleep(1)
        assert b'"latitude":1.0' in await w.races.positions("R1")
        assert w.live.take(9) == ([] if parked else [OLD], {"R1"})
