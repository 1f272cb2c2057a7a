"""Beyond max_races: many races that are evicted and started at once are so in turns, and nobody is misled meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.fix import Fix
from actors.races.directory import AT_ONCE
from actors.supervision.child import State
from tests.kit.fakes import FakeHistory
from tests.kit.making import make_fix
from tests.races.race_world import IDLE_S, World, world

MANY = 4 * AT_ONCE


def of(prefix: str, at_s: float = 0.0) -> list[Fix]:
    return [make_fix(at_s=at_s, race_id=f"{prefix}{n}") for n in range(MANY)]


async def settled(w: World, *fixes: Fix) -> None:
    w.route(*fixes)
    await wait_all_tasks_blocked()


async def test_they_end_and_begin_some_in_a_turn() -> None:
    async with world(max_races=MANY) as w:
        await settled(w, *of("old"))
        children = list(w.races.children.values())
        w.route(*of("new"))
        children += w.races.children.values()
        assert len(w.races.children) == MANY
        ended, begun = [0], [0]
        while ended[-1] < MANY or begun[-1] < MANY:
            await trio.lowlevel.checkpoint()
            ended.append(sum(child.ended.is_set() for child in children))
            begun.append(sum(child.state is not State.WAITING for child in children[MANY:]))
        for seen in (ended, begun):
            assert max(after - before for before, after in pairwise(seen)) <= 2 * AT_ONCE, "the last two are one step"


async def test_one_that_has_not_begun_never_does(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = FakeHistory.newest_of_races

    async def note(self: FakeHistory, race_ids: Sequence[str], **limits: int) -> dict[str, list[Fix] | None]:
        asked.extend(race_ids)
        return await real(self, race_ids, **limits)

    monkeypatch.setattr(FakeHistory, "newest_of_races", note)
    async with world(max_races=1) as w:
        w.route(make_fix(race_id="R1"), make_fix(race_id="R2"))
        await trio.sleep(1)
        assert asked == ["R2"]
        assert {fix.race_id for parcel in w.handed_over() for fix in parcel.fixes} == {"R1", "R2"}
        assert {fix.race_id for fix in w.live.take(9)[0]} == {"R1", "R2"}


async def test_what_was_in_its_window_is_shown_anew(autojump_clock: MockClock) -> None:
    """It could come after what is newer."""
    async with world(max_races=1) as w:
        viewer = w.watch("R1")
        await settled(w, make_fix(race_id="R1"))
        await trio.sleep(1)
        w.route(make_fix(race_id="R1", at_s=1))
        assert len(viewer.updates()) == 1
        evicted = w.races.states["R1"]
        w.route(make_fix(race_id="R2"))
        assert evicted.outboxes == {}, "it shows nobody anything, until it ends"
        await trio.sleep(1)
        assert len(viewer.updates()) == 1
        assert viewer.outbox.behind_due(trio.current_time()) == ["R1"]


async def test_one_that_ends_by_itself_meanwhile_leaves_its_successor_alone(mock_clock: MockClock) -> None:
    async with world(max_races=MANY) as w:
        await settled(w, *of("old"))
        mock_clock.jump(IDLE_S)  # all are due to retire, and do so in the next turn
        w.route(*of("new"), make_fix(race_id=f"old{MANY - 1}", at_s=1))
        await wait_all_tasks_blocked()
        assert w.state(f"old{MANY - 1}") is State.RUNNING
        assert len(w.races.children) <= MANY
