"""What mosquitto says it has thrown away because a client's queue was full, ours or another's."""

from __future__ import annotations

import math

import attrs

TOPIC = "$SYS/broker/publish/messages/dropped"

SAY_EVERY_S = 60.0

DIGITS = 18
"""More is no count."""


def total_in(payload: bytes) -> int | None:
    """Messages since the broker's start; None when it says something else."""
    return int(payload) if payload.isdigit() and len(payload) <= DIGITS else None


@attrs.define
class BrokerDrops:
    """Makes of it what is new, for the count and for the log."""

    _seen: int | None = None  # what the broker said last
    _unsaid: int = 0  # messages that the log does not know of
    _said_at: float = -math.inf  # seconds, the caller's clock

    def more(self, total: int) -> int:
        """How many since the broker was heard last; none the first time, nobody knows when that was.

        Over a reconnect too: most is dropped while we are away. A broker that was restarted counts from 0.
        """
        before = total if self._seen is None else self._seen
        self._seen = total
        more = total - before if total >= before else total
        self._unsaid += more
        return more

    def to_say(self, now: float) -> int:
        """How many more, when it is time to say it."""
        if not self._unsaid or now < self._said_at + SAY_EVERY_S:
            return 0
        unsaid, self._unsaid, self._said_at = self._unsaid, 0, now
        return unsaid
