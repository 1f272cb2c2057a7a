"""The same, with rows among them that PostgreSQL refuses for good: wherever they were shown, they are taken back.

At the end every dashboard, the live view and Redis show the greatest of what PostgreSQL holds.
"""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.simulation.chaos import MINUTES, race_day


@pytest.mark.usefixtures("scheduler")
async def test_refused_rows_are_nowhere_in_the_end(autojump_clock: MockClock, seed: int) -> None:
    print(f"seed {seed}")
    await race_day(seed, MINUTES, spooling=seed % 2 == 0, refusing=True)
