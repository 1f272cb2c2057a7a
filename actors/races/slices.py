"""The live positions of a race as JSON, some hundred at a time: what a snapshot is made of.

Pure. Between two slices everybody else may have a turn: of 60,000 participants all of it takes some 200 ms.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from actors.core.fix import Fix
from actors.core.position import position_json
from actors.dashboards.frames import Shared
from actors.races.live_positions import LivePositions

SLICE = 100
"""Participants. Made and deflated in some 0.25 ms; in fewer, deflated positions would be a tenth longer."""


@attrs.frozen
class _Slice:
    fixes: list[Fix]
    stale: frozenset[str]  # participants of these
    json: Shared


@attrs.define(eq=False)
class Slices:
    """Kept, so that a snapshot makes only those anew in which somebody moved since the last one, of whomever that was.

    Participants keep their places in LivePositions, so they keep their slices.
    """

    _kept: dict[int, _Slice] = attrs.field(factory=dict)

    def of(self, live: LivePositions) -> Iterator[Shared]:
        """All that is live now, whatever becomes live while slices are taken. Joined they are positions with commas
        between them."""
        fixes, stale = list(live.newest.values()), frozenset(live.stale)
        if not fixes:
            self._kept.clear()  # refused, or nobody was there
        return (self._slice(at, fixes[at : at + SLICE], stale) for at in range(0, len(fixes), SLICE))

    def _slice(self, at: int, fixes: list[Fix], all_stale: frozenset[str]) -> Shared:
        stale = all_stale.intersection([fix.participant_id for fix in fixes]) if all_stale else all_stale
        kept = self._kept.get(at)
        if kept is not None and kept.fixes == fixes and kept.stale == stale:
            return kept.json
        positions = b",".join([position_json(fix, fix.participant_id in stale) for fix in fixes])
        made = self._kept[at] = _Slice(fixes, stale, Shared(b"," + positions if at else positions))
        return made.json
