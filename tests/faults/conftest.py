"""Fixtures of the fault tests, and their seed: fixed in every run, random with `-m soak`, chosen with `--seed N`."""

from __future__ import annotations

import random

import pytest

from tests.faults.outage import own as own

SEED = 1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--seed")
        soak = metafunc.definition.get_closest_marker("soak") is not None
        metafunc.parametrize("seed", [chosen if chosen is not None else random.randrange(10**6) if soak else SEED])
