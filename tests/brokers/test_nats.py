"""NATS of the wheel as it is set up in README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import pipeline
from tests.brokers.servers import TRACKER, start_nats
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


def test_nodes_cannot_share_it(tmp_path: Path) -> None:
    """It grants what is shared and delivers nothing: one line, and no plain subscription is given up for it."""
    plain = '"tracking.*.position", "$MQTT.sub.>"'
    rights = (plain, f'{plain}, "tracking-probe.>", "$share.>"'), ('"tracking.*.receipt"', '"tracking-probe.>"')
    with own_servers(tmp_path, lambda folder: start_nats(folder, *rights)) as own:
        pipeline.settings(own, client_id="tracking-{node_id}")
        with own.at.daemon() as running:
            assert running.stop() == 0
        own.at.keys["cluster"] = {"ingest": "shared", "relay": "yes"}
        with own.at.daemon(ready=False) as running:
            assert running.process.wait(pipeline.WITHIN_S) == 1
            (line,) = [each for each in running.log.splitlines() if "[error" in each]
        said = "grants a shared subscription and delivers nothing to it: [cluster] ingest = shared cannot work with it"
        assert said in line
        found = own.at.command("check", check=1).stdout
        assert f"FAILED  broker: {said}" in found
        del own.at.keys["cluster"]
        own.at.send({"participant_id": "P1", "race_id": "R"}, login=TRACKER)  # what the session still takes
        with own.at.daemon() as running:
            running.settled(1)
            assert running.stop() == 0
