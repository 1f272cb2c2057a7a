"""The fault runner: trackers, two nodes, dashboards and a nemesis at once, then the checker. A minute in CI, longer in
soak.

A run is chosen by its seed, which is printed; how the processes interleave is not. When it fails, what was done, sent
and logged is kept in a folder, which is named.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.nemesis import Nemesis
from tests.faults.site import other_node, running_site
from tests.faults.spectator import Spectator
from tests.kit.postgres import start_postgres

pytestmark = pytest.mark.live

RACES = ("A", "B", "C")
RATE = 100
STRETCH_S = 20.0
"""After each of them everything has to come to rest."""

STRETCHES = 3
SOAK_STRETCHES = 30


def run(folder: Path, seed: int, stretches: int) -> None:
    (folder / "postgres").mkdir()
    with (
        start_postgres(folder / "postgres") as database,
        running_site(
            folder, PostgresAddress(database.host, database.port, database="postgres"), cluster={"relay": "yes"}
        ) as site,
        site.race_day(*RACES, rate=RATE, seed=seed) as (press, first),
        other_node(site) as other,
        Spectator(other.daemon.at.port, RACES) as second,
    ):
        nemesis = Nemesis(site, other, database, press, seed)
        try:
            for _ in range(stretches):
                nemesis.rage(STRETCH_S)
                check(site.at, site.daemon.running, press, [first, second])
                press.resume()
            press.finish()
            for daemon in (other.daemon, site.daemon):
                assert daemon.stop() == 0
        except BaseException:
            kept = Path(tempfile.mkdtemp(prefix=f"tracking-faults-seed-{seed}-"))
            print(f"--seed {seed}: history and logs are in {kept}")
            nemesis.write_history(kept / "nemesis.jsonl")
            press.write_history(kept / "press.jsonl")
            for log in (folder / "daemon.log", *folder.glob("*/*.log"), database.folder / "server.log"):
                shutil.copy(log, kept / f"{log.parent.name}-{log.name}")
            raise


def test_faults_at_random(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, STRETCHES)


@pytest.mark.soak
def test_faults_at_random_for_long(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, SOAK_STRETCHES)
