"""One race: the live position of each participant, who is stale, and what a set of fixes changes.

Live is the greatest fix by (timestamp, status, id), as everywhere (Fix.rank). A participant is stale when that is
`moving` or `stopped` and older than the threshold; the flag turns only when the stream has told so (`turn_stale`) or
a change says so, which is why a snapshot always agrees with the stream.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import attrs
import msgspec

from actors.core.fix import STOPPED, Fix

TURN = 200
"""Who turn stale in one go, each with an event, some 5 ms. All of a race do while its broker is away."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """A new live position."""

    fix: Fix
    stale: bool  # already older than the threshold when it became live


@attrs.define
class LivePositions:
    """Owned by the supervisor beside the race's mailbox: it outlives a crash of the race."""

    stale_after_ms: int
    max_skew_ms: int
    newest: dict[str, Fix] = attrs.field(factory=dict)  # participant id -> live fix
    stale: set[str] = attrs.field(factory=set)
    _due: list[tuple[int, str]] = attrs.field(factory=list)  # heap of (Unix ms, participant), one entry each at most
    _watched: set[str] = attrs.field(factory=set)  # participants that have an entry in _due

    def changes(self, fixes: Iterable[Fix], now_ms: int) -> list[Change]:
        """What these fixes would change, in order; changes nothing itself. Equal or smaller fixes change nothing."""
        ahead: dict[str, Fix] = {}
        found: list[Change] = []
        for fix in fixes:
            participant = fix.participant_id
            live = ahead.get(participant) or self.newest.get(participant)
            if live is not None and (
                fix.timestamp_ms < live.timestamp_ms
                or (fix.timestamp_ms == live.timestamp_ms and fix.rank <= live.rank)
            ):
                continue
            if fix.timestamp_ms - fix.arrived_ms > self.max_skew_ms:
                continue
            ahead[participant] = fix
            found.append(Change(fix, self._is_old(fix, now_ms)))
        return found

    def accept(self, changes: Sequence[Change]) -> bool:
        """Make the changes true; True when `next_due_ms` may be earlier now. Does nothing that can fail half way."""
        sooner = False
        for change in changes:
            participant = change.fix.participant_id
            self.newest[participant] = change.fix
            if change.stale:
                self.stale.add(participant)
            else:
                self.stale.discard(participant)
                if change.fix.status <= STOPPED and participant not in self._watched:
                    sooner = True
                    self._watched.add(participant)
                    heapq.heappush(self._due, (self._due_ms(change.fix), participant))
        return sooner

    def may_show(self, fix: Fix) -> bool:
        """Whether this fix is live, or may be where live positions are kept: nothing greater is known here."""
        live = self.newest.get(fix.participant_id)
        return live is None or live.rank <= fix.rank

    def clear(self) -> None:
        """Nobody is live."""
        for part in (self.newest, self.stale, self._due, self._watched):
            part.clear()

    def turn_stale(self, now_ms: int) -> list[Fix]:
        """Flag who became stale by `now_ms`, TURN at a time; returns their live fixes, for the events to send."""
        turned: list[Fix] = []
        while self._due and self._due[0][0] <= now_ms and len(turned) < TURN:
            _, participant = heapq.heappop(self._due)
            self._watched.discard(participant)
            fix = self.newest.get(participant)
            if fix is None or fix.status > STOPPED or participant in self.stale:
                continue
            if self._is_old(fix, now_ms):
                self.stale.add(participant)
                turned.append(fix)
            else:
                self._watched.add(participant)
                heapq.heappush(self._due, (self._due_ms(fix), participant))
        return turned

    def next_due_ms(self) -> int | None:
        """Unix ms at which `turn_stale` may find somebody; None when nobody can become stale."""
        return self._due[0][0] if self._due else None

    def _is_old(self, fix: Fix, now_ms: int) -> bool:
        return fix.status <= STOPPED and now_ms - fix.timestamp_ms > self.stale_after_ms

    def _due_ms(self, fix: Fix) -> int:
        return fix.timestamp_ms + self.stale_after_ms + 1
