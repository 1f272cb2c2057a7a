"""Restart intensity: the waits double, the window forgets, the budget ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.supervision.restart import Budget, recent, wait_before_restart

BUDGET = Budget(max_restarts=3, window_s=10, backoff_initial_s=0.1, backoff_max_s=0.3)


@pytest.mark.parametrize(
    ("crashes", "now", "wait"),
    [
        ([0.0], 0.0, 0.1),
        ([0.0, 1.0], 1.0, 0.2),
        ([0.0, 1.0, 2.0], 2.0, 0.3),
        ([0.0, 1.0, 2.0, 3.0], 3.0, None),
        ([0.0, 1.0, 2.0, 11.5], 11.5, 0.2),
        ([], 5.0, 0.1),
    ],
)
def test_wait_or_spent(crashes: list[float], now: float, wait: float | None) -> None:
    assert wait_before_restart(crashes, now, BUDGET, jitter=0.0) == pytest.approx(wait)


def test_jitter_takes_off_at_most_half() -> None:
    assert wait_before_restart([0.0], 0.0, BUDGET, jitter=1.0) == pytest.approx(0.05)


@given(st.lists(st.floats(0, 1000), min_size=1).map(sorted), st.floats(0, 1))
def test_spent_exactly_when_more_than_max_are_recent(crashes: list[float], jitter: float) -> None:
    now = crashes[-1]
    wait = wait_before_restart(crashes, now, BUDGET, jitter)
    assert (wait is None) == (len(recent(crashes, now, BUDGET)) > BUDGET.max_restarts)
    assert wait is None or BUDGET.backoff_initial_s / 2 <= wait <= BUDGET.backoff_max_s
