"""Snapshots of many participants are made in turns, of one moment, beside everything else that a race does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.fix import Fix
from actors.core.position import position_json
from actors.dashboards.frames import Frame, Shared
from actors.races import slices, snapshots, turns
from actors.races.messages import Subscribe
from actors.races.snapshots import AT_ONCE, snapshot_frame
from actors.races.state import RaceState
from actors.supervision.child import State
from tests.kit.fakes import Viewer
from tests.kit.making import make_fix
from tests.races.race_world import WINDOW_S, World, world

MANY = AT_ONCE + 50


@asynccontextmanager
async def crowded(**options: Any) -> AsyncIterator[World]:
    """A race of MANY participants, that no window is open of."""
    async with world(**options) as w:
        w.route(*[make_fix(f"P{n}") for n in range(MANY)])
        await wait_all_tasks_blocked()
        yield w


def moved(number: int) -> Fix:
    return make_fix(f"P{number}", at_s=number + 1)


def shown(viewer: Viewer) -> dict[str, str]:
    """What the dashboard shows in the end. Nobody may ever have gone back."""
    newest: dict[str, str] = {}
    for entry in viewer.events:
        match entry["event"]:
            case "race_snapshot":
                found = {each["participantId"]: each["timestamp"] for each in entry["data"]["positions"]}
                assert all(newest[name] <= found[name] for name in newest)
                newest = found
                continue
            case "position_update":
                positions = [entry["data"]]
            case "batch_position_update":
                positions = entry["data"]["positions"]
            case _:
                continue
        for each in positions:
            assert each["timestamp"] > newest[each["participantId"]]
            newest[each["participantId"]] = each["timestamp"]
    return newest


async def live(w: World) -> dict[str, str]:
    viewer = w.watch()
    await trio.sleep(1)
    return shown(viewer)


async def test_changes_meanwhile_come_behind_it_and_nobody_goes_back(autojump_clock: MockClock) -> None:
    async with crowded(window_s=0) as w:
        early = w.watch()
        await wait_all_tasks_blocked()
        late, again = w.watch(), early
        again.outbox.expect("R1")
        w.races.subscribe("R1", again.outbox, 7)
        for number in range(0, MANY, 10):
            w.route(moved(number))
            await trio.lowlevel.checkpoint()
        await trio.sleep(1)
        assert shown(early) == shown(late) == await live(w)
        assert [len(each["positions"]) for each in late.named("race_snapshot")] == [MANY]
        assert len(early.named("race_snapshot")) == 2
        assert len(late.updates()) > 5


async def test_what_waits_in_the_window_is_not_shown_after_it(autojump_clock: MockClock) -> None:
    async with crowded() as w:
        first = w.watch()
        await wait_all_tasks_blocked()
        w.route(moved(1))
        second = w.watch()
        w.route(moved(2))
        await trio.sleep(2 * WINDOW_S)
        assert shown(first) == shown(second) == await live(w)


async def test_one_is_made_for_all_who_ask_meanwhile(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counting(fix: Fix, stale: bool) -> bytes:
        made.append(1)
        return position_json(fix, stale)

    monkeypatch.setattr(slices, "position_json", counting)
    async with crowded() as w:
        viewers = [w.watch() for _ in range(20)]
        await trio.sleep(1)
        assert len(made) == MANY
        w.route(*[moved(number) for number in range(MANY)])
        viewers += [w.watch() for _ in range(20)]
        await trio.sleep(1)
        assert len(made) == 2 * MANY
        assert all(len(viewer.named("race_snapshot")) == 1 for viewer in viewers)


async def test_others_have_their_turns(autojump_clock: MockClock) -> None:
    async with crowded() as w:
        turns = 0
        viewer = w.watch()
        while not viewer.events:
            turns += 1
            await trio.lowlevel.checkpoint()
        assert turns > MANY / slices.SLICE


async def test_who_leaves_meanwhile_gets_nothing(autojump_clock: MockClock) -> None:
    async with crowded() as w:
        viewer, other = w.watch(), w.watch()
        await trio.lowlevel.checkpoint()
        viewer.outbox.forget("R1")
        w.races.unsubscribe("R1", viewer.outbox)
        w.route(moved(1))
        await trio.sleep(1)
        assert viewer.events == []
        assert viewer.outbox.update_bytes == 0
        assert shown(other) == await live(w)


async def test_a_race_that_crashes_meanwhile_makes_it_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with crowded(max_restarts=3) as w:
        crashes = iter([True, False, True])

        def broken(state: RaceState, positions: Iterable[Shared], now_ms: int, request: Subscribe) -> Frame:
            if next(crashes, False):
                raise KeyError("snapshot")
            return snapshot_frame(state, positions, now_ms, request)

        monkeypatch.setattr(snapshots, "snapshot_frame", broken)
        viewers = [w.watch() for _ in range(3)]
        await trio.lowlevel.checkpoint()
        w.route(moved(1))
        await trio.sleep(20)
        w.route(moved(2))
        await trio.sleep(1)
        assert w.state() is State.RUNNING
        everything = await live(w)
        for viewer in viewers:
            assert len(viewer.named("race_snapshot")) == 1
            assert shown(viewer) == everything


async def test_who_waits_for_a_race_that_is_stopped_is_refused(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with crowded(max_restarts=0) as w:

        def broken(*_: object) -> Frame:
            raise KeyError("snapshot")

        monkeypatch.setattr(snapshots, "snapshot_frame", broken)
        viewer = w.watch()
        await trio.sleep(1)
        assert w.state() is State.PARKED
        assert [each["code"] for each in viewer.named("error")] == ["unavailable"]


async def test_a_race_that_is_evicted_meanwhile_refuses(autojump_clock: MockClock) -> None:
    async with crowded(max_races=1) as w:
        w.store.rows = {fix.id: fix for fix in (make_fix(f"P{n}") for n in range(MANY))}
        watching = w.watch()
        await trio.sleep(1)
        asking = w.watch()
        watching.outbox.expect("R1")
        w.races.subscribe("R1", watching.outbox)
        await trio.lowlevel.checkpoint()
        w.route(make_fix(race_id="R2"))
        await trio.sleep(1)
        assert [each["code"] for each in asking.named("error")] == ["unavailable"]
        assert not asking.outbox.subscribed("R1")
        w.route(moved(1))
        await trio.sleep(1)
        watching.catch_up(w.races)
        await trio.sleep(1)
        assert shown(watching)["P1"] == (await live(w))["P1"]


async def test_a_crowd_that_is_restored_becomes_live_in_turns(autojump_clock: MockClock) -> None:
    async with world() as w:
        rows = [make_fix(f"P{n}") for n in range(3 * turns.BATCH)]
        w.store.rows = {fix.id: fix for fix in rows}
        viewer = w.watch()
        seen = set[int]()
        while not viewer.events:
            seen.update(len(each.newest) for each in w.standings)
            await trio.lowlevel.checkpoint()
        await trio.sleep(1)
        assert seen - {0, 3 * turns.BATCH}
        assert len(shown(viewer)) == 3 * turns.BATCH
