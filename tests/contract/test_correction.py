"""What PostgreSQL refuses after dashboards saw it is taken back, there and in Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.daemon import until
from tests.kit.expected import fix, now_ms
from tests.kit.live_state import cached, snapshot
from tests.kit.metrics import conserved
from tests.kit.station import station

pytestmark = pytest.mark.live


def test_a_refused_row_that_was_live_is_taken_back(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with station(tmp_path, postgres_server) as at, at.daemon() as running:
        at.db.execute("alter table tracking_positions add check (latitude < 80)")
        start_ms = now_ms() - 5000
        at.send(fix("R", "P1", start_ms, latitude=10.0))
        running.settled(at.published)
        north, south = fix("R", "P1", start_ms + 1000, latitude=85.0), fix("R", "P2", start_ms, latitude=1.0)
        at.send([north, south])  # one batch, of which one row is refused
        running.settled(at.published)
        until(lambda: running.live("R")["P1"].get("latitude") == 10.0, "back to what PostgreSQL has")
        until(lambda: cached(at, "R", "P1").get("latitude") == 10.0, "in Redis too")
        assert {p: one["latitude"] for p, one in snapshot(running, "R")["R"].items()} == {"P1": 10.0, "P2": 1.0}
        assert [row[1] for row in at.rows("R")] in (["P1", "P2"], ["P2", "P1"])
        at.send([north, south], fix("R", "P1", start_ms + 2000, latitude=20.0))
        seen = running.settled(at.published)
        assert running.live("R")["P1"]["latitude"] == 20.0
        assert seen["tracking_fixes_rejected_total"] == 2
        assert conserved(seen)
