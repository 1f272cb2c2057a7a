"""What is long for one turn of the loop, a piece in a turn: others come in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import trio

from actors.core.fix import Fix
from actors.dashboards.frames import Shared
from actors.races.live_positions import LivePositions
from actors.races.slices import Slices

BATCH = 2000
"""Fixes that become live in one go: some 3 ms."""


def in_batches(fixes: Sequence[Fix]) -> list[tuple[Fix, ...]]:
    """One at least, so that a race looks up."""
    return [tuple(fixes[at : at + BATCH]) for at in range(0, len(fixes) or 1, BATCH)]


async def made_live(live_positions: LivePositions, fixes: Sequence[Fix], clock: Callable[[], int]) -> Iterator[Shared]:
    """What is live then. `clock`: Unix ms."""
    for batch in in_batches(fixes):
        live_positions.accept(live_positions.changes(batch, clock()))
        await trio.lowlevel.checkpoint()
    return Slices().of(live_positions)


async def joined(slices: Iterator[Shared]) -> bytes:
    """All of them."""
    parts = []
    for part in slices:
        parts.append(part.data)
        await trio.lowlevel.checkpoint()
    return b"".join(parts)
