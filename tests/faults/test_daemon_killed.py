"""The daemon killed with SIGKILL at random times, again and again, under load."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.site import Site, running_site
from tests.faults.spectator import Spectator

pytestmark = pytest.mark.live

RACES = ("A", "B")


def killed(site: Site, times: int, seed: int) -> None:
    """Sometimes before it is ready, sometimes a while after."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    with site.race_day(*RACES, rate=300, seed=seed) as (press, first), Spectator(site.at.port, ("B",)) as second:
        for _ in range(times):
            time.sleep(rng.uniform(0, 0.7))
            site.daemon.kill()
            site.daemon.start(ready=rng.random() < 0.7)
        site.daemon.running.until_ready()
        seen = check(site.at, site.daemon.running, press, [first, second])
        assert len(seen.rows) == len(press.sent) > 100
    assert site.daemon.stop() == 0


def test_killed_five_times(tmp_path: Path, postgres_server: PostgresAddress, seed: int) -> None:
    with running_site(tmp_path, postgres_server) as site:
        killed(site, 5, seed)


@pytest.mark.soak
def test_killed_fifty_times(tmp_path: Path, postgres_server: PostgresAddress, seed: int) -> None:
    with running_site(tmp_path, postgres_server) as site:
        killed(site, 50, seed)
