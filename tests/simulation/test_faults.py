"""The whole tree under random faults: ten simulated minutes a seed, every actor crashed and every driver failing.

A failing seed replays exactly: `pytest tests/simulation/test_faults.py --seed N`. See chaos.py for how.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from trio.testing import MockClock

from tests.kit.daemon import ROOT
from tests.simulation.chaos import MINUTES, race_day


@pytest.mark.usefixtures("scheduler")
async def test_nothing_lost_nothing_twice_all_converge(autojump_clock: MockClock, seed: int) -> None:
    print(f"seed {seed}")
    await race_day(seed, MINUTES)


def test_a_seed_replays_exactly() -> None:
    """Also in another process, where sets have another order."""
    argv = [sys.executable, "-m", "tests.simulation.chaos", "7", "2"]
    digests = [
        subprocess.run(
            argv, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": order}, check=True, capture_output=True, text=True
        ).stdout.split()[-1]
        for order in ("1", "2")
    ]
    assert digests[0] == digests[1]
