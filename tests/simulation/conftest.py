"""Seeds of the random simulations: a few in every run, many with `-m soak`, one with `--seed N`."""

from __future__ import annotations

import pytest

SEEDS = 25
SOAK_SEEDS = 2000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--seed")
        soak = "soak" in (metafunc.config.getoption("-m") or "").replace("not soak", "")
        metafunc.parametrize("seed", [chosen] if chosen is not None else range(SOAK_SEEDS if soak else SEEDS))
