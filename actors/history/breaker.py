"""A circuit breaker: whether PostgreSQL is away, for all of persistence, and when the spool takes over.

Away is from the first call that could not reach it until it answers, or, while a batch waits, until that is committed:
what is read-only or full answers all the same. Only "cannot be reached" counts; a wrong set-up is waited out without
the spool, because nobody knows what it will take. All times are seconds of one clock.
"""

from __future__ import annotations

import attrs

PATIENCE_LEAST_S = 1.0
"""For an answer of PostgreSQL, however small [postgres] spool_after_s is."""


@attrs.define
class Breaker:
    """Outlives a crash of persistence."""

    after_s: float  # [postgres] spool_after_s
    away_since: float | None = None
    _batch_waits: bool = False  # persistence failed to write the batch in its hands

    def failed(self, since: float, *, writing: bool = False) -> None:
        """A call that was begun at `since` did not reach it: one that hung for long was away for as long.

        `writing`: it was persistence's batch, which waits.
        """
        self._batch_waits |= writing
        if self.away_since is None:
            self.away_since = since

    def set_up_wrong(self, *, writing: bool = False) -> None:
        """It is there, but not as it has to be. `writing`: as above."""
        self._batch_waits |= writing
        self.away_since = None

    def answered(self) -> bool:
        """It answered, or took rows of the spool; whether that makes all well."""
        if not self._batch_waits:
            self.away_since = None
        return not self._batch_waits

    def committed(self) -> None:
        """Persistence's batch is in PostgreSQL."""
        self._batch_waits = False
        self.away_since = None

    def spooled(self) -> None:
        """Persistence's batch is in the spool: an answer is enough from now on."""
        self._batch_waits = False

    def is_open(self, now: float) -> bool:
        """Away for long enough: rows go to the spool."""
        return self.away_since is not None and now - self.away_since >= self.after_s

    @property
    def patience_s(self) -> float:
        """How long a write may take, where the spool could have its rows."""
        return max(self.after_s, PATIENCE_LEAST_S)
