"""What PostgreSQL has confirmed of late, kept to be written again: the server that answers next may not have it.

A standby that is promoted lacks what was not copied to it yet, a server with synchronous_commit = off what it had not
synced when it crashed: both have confirmed it, so it is acknowledged, and nobody else would send it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import attrs

KEPT_S = 10.0
"""Before the last answer of a server that has it all: far more than a standby lags that is fit to be promoted."""

KEPT_ROWS = 50_000  # some 150 bytes each


@attrs.define(eq=False)
class RecentBatch:
    """Rows of one statement, as it took them."""

    values: tuple[bytes, ...]  # its parameters
    rows: int
    confirmed_s: float
    session: object  # in which it was


@attrs.define(eq=False)
class Recent:
    """Bounded by time and by rows; times are seconds of any one clock."""

    _batches: deque[RecentBatch] = attrs.field(factory=deque)
    _rows: int = 0

    def add(self, batch: RecentBatch) -> None:
        """It has just been confirmed."""
        self._batches.append(batch)
        self._rows += batch.rows
        while self._rows > KEPT_ROWS:
            self._rows -= self._batches.popleft().rows
        self.answered(batch.confirmed_s)

    def answered(self, now_s: float) -> None:
        """A server that has all of these answers: what it confirmed long ago would only bring back what somebody has
        deleted since."""
        while self._batches and self._batches[0].confirmed_s < now_s - KEPT_S:
            self._rows -= self._batches.popleft().rows

    def confirmed_elsewhere(self, session: object) -> Iterator[RecentBatch]:
        """The oldest first; the caller sets `session` of each that it has written again."""
        return (batch for batch in list(self._batches) if batch.session is not session)
