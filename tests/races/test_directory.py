"""The directory and its races: start, snapshot and stream, staleness, retirement, eviction."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.timestamps import format_ms
from actors.races.window import EVENT_BYTES
from actors.supervision.child import State
from tests.kit.making import BASE_MS, make_fix
from tests.races.race_world import IDLE_S, STALE_MS, WINDOW_S, now_ms, world

pytestmark = pytest.mark.usefixtures("both_ways")


async def test_first_fix_starts_a_race_that_hands_over_and_goes_live(autojump_clock: MockClock) -> None:
    async with world() as w:
        fix = make_fix()
        w.route(fix)
        await wait_all_tasks_blocked()
        assert [p.fixes for p in w.handed_over()] == [(fix,)]
        assert w.live.take(9)[0] == [fix]
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


async def test_how_long_fixes_have_waited_before_counts_for_the_window(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch()
        await wait_all_tasks_blocked()
        w.route(make_fix(at_s=0), make_fix(at_s=1), waited_s=WINDOW_S * 0.75)
        w.route(make_fix(at_s=2))
        assert viewer.updates() == []
        await trio.sleep(WINDOW_S / 2)
        assert len(viewer.updates()) == 3
        w.route(make_fix(at_s=3), waited_s=WINDOW_S)
        await wait_all_tasks_blocked()
        assert len(viewer.updates()) == 4, "without any wait"


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
        assert max(sizes) * 200 < 1.1 * EVENT_BYTES


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
        assert w.races.states["R1"].outboxes == {}


async def test_unsubscribing_from_an_empty_race_leaves_nothing(autojump_clock: MockClock) -> None:
    async with world() as w:
        viewer = w.watch("R9")
        await wait_all_tasks_blocked()
        viewer.outbox.forget("R9")
        w.races.unsubscribe("R9", viewer.outbox)
        w.races.unsubscribe("never seen", viewer.outbox)
        assert w.races.states == {}


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
        assert w.races.states == {}
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
        assert b'"P001"' in await w.races.positions("R1")
        assert b'"P7"' in await w.races.positions("R2")
        assert await w.races.positions("R3") == b""
        assert "R2" not in w.races.children


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


async def test_beyond_max_races_the_quietest_goes_and_history_goes_on(autojump_clock: MockClock) -> None:
    async with world(max_races=2) as w:
        watcher = w.watch("R1")
        await wait_all_tasks_blocked()
        w.route(make_fix(race_id="R1"))
        for race_id in ("R2", "R3"):
            await trio.sleep(1)
            w.route(make_fix(race_id=race_id))
            w.watch(race_id)
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


async def test_a_race_that_somebody_watches_goes_last(autojump_clock: MockClock) -> None:
    async with world(max_races=2) as w:
        w.watch("R1")
        for race_id in ("R1", "R2", "R3"):
            await trio.sleep(1)
            w.route(make_fix(race_id=race_id))
        await trio.sleep(1)
        assert set(w.races.children) == {"R1", "R3"}


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
        assert set(w.races.states) == {"R2"}, "nobody watches R1"


async def test_what_waited_when_a_race_was_evicted_is_in_redis_and_shown_later(autojump_clock: MockClock) -> None:
    async with world(max_races=1) as w:
        viewer = w.watch("R1")
        await wait_all_tasks_blocked()
        w.route(make_fix(race_id="R1"))
        await trio.sleep(1)
        w.live.take(9)
        unseen, ahead = make_fix(race_id="R1", at_s=2), make_fix(race_id="R1", at_s=9999, arrived_s=2)
        w.watch("R1")  # in front of them in the mailbox: they wait
        w.route(unseen, ahead)
        w.route(make_fix(race_id="R2"))
        await trio.sleep(1)
        assert [fix for fix in w.live.take(9)[0] if fix.race_id == "R1"] == [unseen]
        assert viewer.outbox.behind_due(trio.current_time()) == ["R1"]
        assert len(w.handed_over()) == 3


async def test_a_race_that_is_evicted_before_the_stores_answered_is_shown_anew(autojump_clock: MockClock) -> None:
    async with world(max_races=1) as w:
        w.history.down = True
        viewer = w.watch("R1")
        w.route(make_fix(race_id="R1"))
        await trio.sleep(1)
        w.route(make_fix(race_id="R2"))
        assert viewer.outbox.behind_due(trio.current_time()) == ["R1"]
