"""More messages than there are packet ids, over one connection: they wrap, and each message is acknowledged once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.drivers.addresses import PostgresAddress
from tests.live.expected import fix
from tests.live.station import conserved, station

pytestmark = pytest.mark.live

MESSAGES = 65_535 + 10_000
PARTICIPANTS = 100
RECEIVE_MAXIMUM = 1000
"""So few that the broker waits for acknowledgements all the time: they go back between the messages."""


def test_packet_ids_wrap(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    recording = tmp_path / "many.jsonl"
    base_ms = 1_780_300_800_000  # 2026-06-01T08:00:00Z
    with recording.open("w") as file:
        for number in range(MESSAGES):
            file.write(json.dumps(fix("many", f"P{number % PARTICIPANTS}", base_ms + number)) + "\n")
    with station(tmp_path, postgres_server, mqtt={"receive_maximum": RECEIVE_MAXIMUM}) as at, at.daemon() as running:
        at.command("replay", str(recording), "--speed", "0")
        seen = running.settled(MESSAGES)
        (rows,) = at.db.execute("select count(*) from tracking_positions").fetchall()
        assert rows == (MESSAGES,)
        assert seen["tracking_acks_total"] == seen["tracking_messages_received_total"] == MESSAGES
        assert seen["tracking_fixes_committed_total"] == MESSAGES
        assert seen["tracking_fixes_duplicate_total"] == 0
        assert running.log.count("component=broker") == 1, "one connection"
        assert at.broker.log.count("Sending PUBLISH to tracking-backend (d0, q1, r0, m1,") == 2, "they did wrap"
        newest = {who: position["timestamp"] for who, position in running.live("many").items()}
        assert len(newest) == PARTICIPANTS
        assert max(newest.values()) == "2026-06-01T08:01:15.534Z"
        assert conserved(seen)
        assert running.stop() == 0
