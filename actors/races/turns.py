"""What is long for one turn of the loop, a piece in a turn: others come in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import trio

from actors.core.fix import Fix
from actors.dashboards.frames import Shared
from actors.races.live_positions import LivePositions
from actors.races.slices import Slices
from actors.races.state import RaceState

BATCH = 2000
"""Fixes that become live in one go: some 3 ms."""


def in_batches(fixes: Sequence[Fix]) -> list[tuple[Fix, ...]]:
    """One at least, so that a race looks up."""
    return [tuple(fixes[at : at + BATCH]) for at in range(0, len(fixes) or 1, BATCH)]


async def in_turns(fixes: Sequence[Fix], do: Callable[[Sequence[Fix]], object]) -> None:
    """`do` some of them, and others in the next turn; a few at once."""
    for batch in in_batches(fixes):
        do(batch)
        if len(batch) == BATCH:
            await trio.lowlevel.checkpoint()


async def made_live(live_positions: LivePositions, fixes: Sequence[Fix], clock: Callable[[], int]) -> Iterator[Shared]:
    """What is live then. `clock`: Unix ms."""
    await in_turns(fixes, lambda batch: live_positions.accept(live_positions.changes(batch, clock())))
    return Slices().of(live_positions)


async def joined(slices: Iterator[Shared]) -> bytes:
    """All of them."""
    parts = []
    for part in slices:
        parts.append(part.data)
        await trio.lowlevel.checkpoint()
    return b"".join(parts)


def all_live(states: Mapping[str, RaceState]) -> Iterator[list[Fix]]:
    """The live positions of all races, BATCH or up to twice as many at a time. Between two, others may have a turn:
    each comes as it is when it comes, and not at all where it was refused or its race evicted meanwhile."""
    some: list[Fix] = []
    for race_id in list(states):
        participants = list(_newest(states, race_id))
        for at in range(0, len(participants), BATCH):
            newest = _newest(states, race_id)
            some += [newest[each] for each in participants[at : at + BATCH] if each in newest]
            if len(some) >= BATCH:
                yield some
                some = []
    yield some


def _newest(states: Mapping[str, RaceState], race_id: str) -> Mapping[str, Fix]:
    return states[race_id].live_positions.newest if race_id in states else {}
