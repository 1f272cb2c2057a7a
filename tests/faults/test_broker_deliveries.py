"""The same fix by several ways: filters that overlap, QoS 0 and retained messages among others, arrays again."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.faults.spectator import Spectator
from tests.kit.daemon import until
from tests.kit.expected import fix, now_ms, row
from tests.kit.metrics import conserved
from tests.kit.station import station

pytestmark = pytest.mark.live

OVERLAPPING: dict[str, object] = {"topics": "tracking/+/position, tracking/#, +/+/position"}


def test_filters_that_overlap_under_load(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with (
        station(tmp_path, postgres_server, broker="allow_duplicate_messages true", mqtt=OVERLAPPING) as at,
        at.daemon() as running,
        Press(at.broker.port, rate=300) as press,
        Spectator(at.port, ["R"]) as spectator,
    ):
        until(lambda: len(press.acknowledged) > 500)
        at.broker.stop()
        at.broker.start()
        enough = len(press.acknowledged) + 300
        until(lambda: len(press.acknowledged) > enough)
        seen = check(at, running, press, [spectator])
        assert seen.metrics["tracking_fixes_duplicate_total"] > len(press.sent), "each came three times"
        assert running.stop() == 0


def test_the_same_fixes_by_every_way(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """Retained, at QoS 0, at QoS 1, in an array, and in that array again with one of them changed."""
    with station(tmp_path, postgres_server) as at, at.daemon() as running:
        fixes = [fix("R", f"P{number}", now_ms() + number) for number in range(200)]
        other = [*fixes[:100], fixes[100] | {"latitude": 47.6}, *fixes[101:]]
        for one in fixes[:50]:
            at.send(one, retain=True, topic=f"tracking/{one['participant_id']}/position")
        at.send(*fixes[:100], qos=0)
        at.send(fixes, other, fixes, [*other, {"participant_id": "P1"}])
        until(lambda: running.metrics()["tracking_fixes_received_total"] >= 150 + 801, "QoS 0 loses nothing here")
        seen = running.settled(154)
        assert conserved(seen)
        assert at.rows("R") == sorted(map(row, [*fixes, other[100]]))
        assert seen["tracking_fixes_committed_total"] == 201
        assert seen["tracking_fixes_rejected_total"] == 1
        assert running.stop() == 0
        with at.daemon() as again:  # retained messages come once more
            until(lambda: again.metrics()["tracking_fixes_received_total"] >= 50)
            seen = again.settled(50)
            assert conserved(seen)
            assert seen["tracking_fixes_committed_total"] == 0
            assert len(at.rows("R")) == 201
