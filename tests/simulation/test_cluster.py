"""Several nodes under random faults, with cuts between each and each server: nothing lost, nothing twice, all converge.

A failing seed runs again with `pytest tests/simulation/test_cluster.py --seed N`. See cluster.py for how.
"""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.simulation.cluster import race_day


@pytest.mark.usefixtures("scheduler")
async def test_three_nodes_agree_in_the_end(autojump_clock: MockClock, seed: int) -> None:
    print(f"seed {seed}")
    await race_day(seed)
