"""As test_faults.py, with `[postgres] spool = no`: while PostgreSQL is away nothing is acknowledged."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.simulation.chaos import MINUTES, race_day


@pytest.mark.usefixtures("scheduler")
async def test_nothing_lost_nothing_twice_all_converge(autojump_clock: MockClock, seed: int) -> None:
    print(f"seed {seed}")
    await race_day(seed, MINUTES, spooling=False)
