"""A piece in a turn: nothing is left out, and others come in between."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from actors.core.fix import Fix
from actors.races import turns
from actors.races.live_positions import LivePositions
from actors.races.slices import SLICE, Slices
from actors.races.state import RaceState
from actors.races.turns import BATCH, all_live, in_batches, in_turns, joined, made_live
from tests.kit.making import BASE_MS, make_fix

FIXES = [make_fix(f"P{n}") for n in range(5 * BATCH)]


def test_batches_hold_each_fix_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "BATCH", 3)
    batches = in_batches(FIXES[:7])
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert [fix for batch in batches for fix in batch] == FIXES[:7]
    assert in_batches([]) == [()]


async def test_others_come_in_between_where_there_are_many() -> None:
    seen: list[int] = []
    done: list[Fix] = []

    async def work() -> None:
        looks = len(seen)
        await in_turns(FIXES[: BATCH - 1], done.extend)
        assert len(seen) == looks, "a few are done at once"
        await in_turns(FIXES[BATCH - 1 :], done.extend)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        while True:
            seen.append(len(done))
            await trio.lowlevel.checkpoint()
    assert done == FIXES
    assert max(after - before for before, after in pairwise(seen)) <= 3 * BATCH, (
        "the first and the last two are one step"
    )


def states_of(*sizes: int) -> dict[str, RaceState]:
    """Races of so many live participants."""
    states = {}
    for number, size in enumerate(sizes):
        state = states[f"R{number}"] = RaceState(f"R{number}", LivePositions(30_000, 300_000))
        state.live_positions.newest = {f"P{n}": make_fix(f"P{n}", race_id=f"R{number}") for n in range(size)}
    return states


@pytest.mark.parametrize("sizes", [(), (0, 0), (1, 2), (3, 1, 1, 1, 7, 0, 6), (20,)])
def test_all_live_positions_come_in_pieces(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]) -> None:
    monkeypatch.setattr(turns, "BATCH", 3)
    states = states_of(*sizes)
    pieces = list(all_live(states))
    assert all(3 <= len(piece) < 6 for piece in pieces[:-1])
    assert len(pieces[-1]) < 3
    assert [fix for piece in pieces for fix in piece] == [
        fix for state in states.values() for fix in state.live_positions.newest.values()
    ]


def test_what_is_refused_or_evicted_between_two_pieces_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis would show it again, after it was told to forget it."""
    monkeypatch.setattr(turns, "BATCH", 3)
    states = states_of(3, 6, 3)
    pieces = all_live(states)
    assert [fix.race_id for fix in next(pieces)] == ["R0"] * 3
    assert [fix.race_id for fix in next(pieces)] == ["R1"] * 3
    states["R1"].live_positions.clear()
    newer = states["R1"].live_positions.newest["P5"] = make_fix("P5", 1, race_id="R1")
    del states["R2"]
    assert list(pieces) == [[newer]]


async def test_all_become_live_and_are_joined_while_others_look_on() -> None:
    live = LivePositions(30_000, 300_000)
    text = b""
    looks: list[int] = []

    async def work() -> None:
        nonlocal text
        text = await joined(await made_live(live, FIXES, lambda: BASE_MS))
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        for _ in range(100):
            looks.append(len(live.newest))
            await trio.lowlevel.checkpoint()
    assert len(set(looks)) > 2
    assert len(looks) >= 3 + BATCH / SLICE
    assert text == b"".join(part.data for part in Slices().of(live))
    assert len(live.newest) == len(FIXES)
