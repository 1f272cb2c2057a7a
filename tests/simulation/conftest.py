"""Seeds of the random simulations: 238 in every run, thousands with `-m soak`, one with `--seed N`.

In several files, as each file is the work of one of the processes that share the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.kit.tracing import untraced
from tests.simulation.chaos import repeatable

SEEDS = {
    "test_faults": range(100),
    "test_faults_without_spool": range(1000, 1100),
    "test_faults_refused": range(2000, 2030),
    "test_cluster": range(3000, 3008),
}
SOAK_FACTOR = 15
TRACED = 3
"""Of a file's seeds, whose lines count for coverage."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--seed")
        soak = "soak" in (metafunc.config.getoption("-m") or "").replace("not soak", "")
        some = SEEDS[metafunc.module.__name__.rpartition(".")[2]]
        many = range(some.start, some.start + len(some) * SOAK_FACTOR) if soak else some
        metafunc.parametrize("seed", [chosen] if chosen is not None else many)


@pytest.fixture
def at_full_speed() -> Iterator[None]:
    """For long simulations: coverage learns no line from them that shorter ones do not show it."""
    with untraced():
        yield


@pytest.fixture
def scheduler(seed: int) -> Iterator[None]:
    """Chooses by the seed, from before trio runs."""
    with repeatable(seed), nullcontext() if seed % 100 < TRACED else untraced():
        yield
