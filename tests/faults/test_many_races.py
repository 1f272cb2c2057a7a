"""More races at once than may be live: phones that come back from a dead zone, or somebody who makes races up."""

from __future__ import annotations

import pytest

from tests.faults.outage import Own
from tests.kit.daemon import until
from tests.kit.expected import fix, now_ms

pytestmark = pytest.mark.live

RACES = 1000  # in each message


@pytest.mark.parametrize(("messages", "most"), [(3, 2_000), pytest.param(15, 10_000, marks=pytest.mark.soak)])
def test_1000_new_races_in_each_message(own: Own, messages: int, most: int) -> None:
    """More than max_races: a dashboard gets its pongs all the time, and no race is missing in history."""
    with own.race("beside", rate=100, app={"max_races": most}) as day:
        start_ms = now_ms()
        own.at.send(*([fix(f"race-{m}-{n}", at=start_ms - n) for n in range(RACES)] for m in range(messages)))
        stored = "select count(*) from tracking_positions where race_id like 'race-%'"
        until(lambda: own.sql(stored) == [(messages * RACES,)], "all are stored", 180)
        day.dashboards_follow()
        day.check()
        assert day.spectator.connected == 1
        assert "max_races reached" in day.running.log
