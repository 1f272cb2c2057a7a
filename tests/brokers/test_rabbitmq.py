"""RabbitMQ as it is set up in README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import pipeline
from tests.brokers.servers import start_rabbitmq
from tests.faults.outage import own_servers

pytestmark = [pytest.mark.live, pytest.mark.brokers]


@pytest.mark.parametrize("spool", ["yes", "no"])
def test_a_race_day(tmp_path: Path, spool: str) -> None:
    with own_servers(tmp_path, start_rabbitmq) as own:
        pipeline.settings(own)
        own.at.keys["postgres"] = {"spool": spool}
        pipeline.race_day(own, 60)
