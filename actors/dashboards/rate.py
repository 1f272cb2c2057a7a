"""How many requests a dashboard may make: a token bucket, and how long it has been running over."""

from __future__ import annotations

from enum import Enum

FLOOD_S = 3.0
"""Over the rate for this long is flooding, which ends the connection (close 1008)."""

CALM_S = 1.0
"""This long without a refused request ends a time over the rate."""


class Verdict(Enum):
    """What to do with one more request."""

    OK = "ok"
    LIMITED = "limited"  # over the rate: refuse this one
    FLOODING = "flooding"  # over the rate for FLOOD_S: close the connection


class Rate:
    """A bucket of `per_s` tokens that refills with `per_s` a second: bursts up to one second's worth pass."""

    __slots__ = ("_last_refused_s", "_over_since_s", "_per_s", "_seen_s", "_tokens")

    def __init__(self, per_s: int, now_s: float) -> None:
        self._per_s = per_s
        self._tokens = float(per_s)
        self._seen_s = now_s
        self._over_since_s = now_s
        self._last_refused_s = now_s - CALM_S - 1

    def request(self, now_s: float) -> Verdict:
        """Count one request at `now_s`, seconds on any clock that never goes back."""
        self._tokens = min(self._per_s, self._tokens + (now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        if self._tokens >= 1:
            self._tokens -= 1
            return Verdict.OK
        if now_s - self._last_refused_s > CALM_S:
            self._over_since_s = now_s
        self._last_refused_s = now_s
        return Verdict.FLOODING if now_s - self._over_since_s >= FLOOD_S else Verdict.LIMITED
