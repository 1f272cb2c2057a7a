"""Restart intensity: crash times -> wait this long, or the budget is spent.

The rule is Erlang/OTP's (supervisor.erl, add_restart): more than `max_restarts` crashes within `window_s` is too many.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class Budget:
    """How often a child may crash, and how long to wait before it runs again."""

    max_restarts: int
    window_s: float
    backoff_initial_s: float
    backoff_max_s: float


def recent(crashes: Sequence[float], now: float, budget: Budget) -> list[float]:
    """The crash times (seconds, ascending) that still count at `now`."""
    return [at for at in crashes if now - at <= budget.window_s]


def wait_before_restart(crashes: Sequence[float], now: float, budget: Budget, jitter: float) -> float | None:
    """Seconds to wait after the last of `crashes` (which is `now`), or None when the budget is spent.

    Doubles with each recent crash up to `backoff_max_s`; `jitter` (0..1) takes off up to half, so that children
    that crashed together do not come back together.
    """
    count = len(recent(crashes, now, budget))
    if count > budget.max_restarts:
        return None
    wait_s = min(budget.backoff_initial_s * 2.0 ** max(count - 1, 0), budget.backoff_max_s)
    return wait_s * (1 - jitter / 2)
