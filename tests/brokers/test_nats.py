"""NATS of the wheel as it is set up in README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import pipeline
from tests.brokers.servers import start_nats
from tests.faults.outage import own_servers

pytestmark = pytest.mark.live


@pytest.mark.parametrize("outage_s", [5, pytest.param(60, marks=pytest.mark.brokers)])
def test_a_race_day(tmp_path: Path, outage_s: float) -> None:
    with own_servers(tmp_path, start_nats) as own:
        pipeline.settings(own)
        pipeline.race_day(own, outage_s)


@pytest.mark.brokers
def test_a_race_day_without_a_spool(tmp_path: Path) -> None:
    with own_servers(tmp_path, start_nats) as own:
        pipeline.settings(own)
        own.at.keys["postgres"] = {"spool": "no"}
        pipeline.race_day(own, 60)
