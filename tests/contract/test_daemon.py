"""The real thing from end to end: a recording, a broker, PostgreSQL, Redis, the daemon as a process, dashboards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.spectator import Shown, Spectator
from tests.kit.daemon import until
from tests.kit.expected import fix, row, unix_ms
from tests.kit.live_state import seen, snapshot
from tests.kit.metrics import conserved
from tests.kit.station import station

pytestmark = pytest.mark.live

RACES = ("R-0", "R-1")


def recorded(path: Path) -> list[dict[str, Any]]:
    """Write a race day, some of it twice and out of order; the distinct fixes."""
    start = unix_ms("2026-06-01T08:00:00Z")
    fixes = [
        fix(race, f"P{who:03}", start + 10_000 * i + 500 * who, latitude=47 + i / 10_000, longitude=8 + who / 1_000)
        for race in RACES
        for i in range(50)
        for who in range(20)
    ]
    lines = [json.dumps(one) for one in fixes]
    for i in range(0, len(lines) - 7, 7):
        lines[i], lines[i + 5] = lines[i + 5], lines[i]
    path.write_text("\n".join(lines + lines[::100]) + "\n")
    return fixes


def test_a_recording_travels_the_whole_way_once(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    file = tmp_path / "race.jsonl"
    fixes = recorded(file)
    published = len(file.read_text().splitlines())
    newest: Shown = {(one["race_id"], one["participant_id"]): one["timestamp"] for one in fixes}
    with station(tmp_path, postgres_server) as at, at.daemon() as running, Spectator(at.port, RACES) as early:
        at.command("replay", str(file), "--speed", "0")
        assert conserved(running.settled(published))
        assert at.rows() == sorted(map(row, fixes))
        until(lambda: early.shown() == newest, "the dashboard shows the newest")
        late = snapshot(running, *RACES)
        assert {(race, who): one["timestamp"] for race in RACES for who, one in late[race].items()} == newest
        cached = {key: unix_ms(moment) for key, moment in newest.items()}
        until(lambda: {(race, who): ms for race in RACES for who, ms in seen(at, race).items()} == cached, "in Redis")

        frames = running.metrics()["tracking_ws_frames_total"]
        at.command("replay", str(file), "--speed", "0")
        again = running.settled(2 * published)
        assert again["tracking_fixes_duplicate_total"] == 2 * published - len(fixes)
        assert again["tracking_ws_frames_total"] == frames, "nobody is told anything twice"
        assert conserved(again)
        assert at.rows() == sorted(map(row, fixes))
        assert running.stop() == 0
