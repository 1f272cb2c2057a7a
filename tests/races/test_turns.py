"""A piece in a turn: nothing is left out, and others come in between."""

from __future__ import annotations

import pytest
import trio

from actors.races import turns
from actors.races.live_positions import LivePositions
from actors.races.slices import SLICE, Slices
from actors.races.turns import BATCH, in_batches, joined, made_live
from tests.kit.making import BASE_MS, make_fix

FIXES = [make_fix(f"P{n}") for n in range(5 * BATCH)]


def test_batches_hold_each_fix_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "BATCH", 3)
    batches = in_batches(FIXES[:7])
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert [fix for batch in batches for fix in batch] == FIXES[:7]
    assert in_batches([]) == [()]


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
