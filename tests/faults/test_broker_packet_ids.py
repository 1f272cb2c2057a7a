"""More messages than there are packet ids, over one connection: they wrap, and each message is acknowledged once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.daemon import until
from tests.kit.expected import fix
from tests.kit.metrics import conserved
from tests.kit.station import station

pytestmark = pytest.mark.live

MESSAGES = 65_535 + 1_000
PARTICIPANTS = 100
RECEIVE_MAXIMUM = 1000
"""So few that the broker waits for acknowledgements all the time: they go back between the messages."""


BASE_MS = 1_780_300_800_000  # 2026-06-01T08:00:00Z


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As many fixes, for `replay`."""
    path = tmp_path_factory.mktemp("recording") / "many.jsonl"
    with path.open("w") as file:
        for number in range(MESSAGES):
            file.write(json.dumps(fix("many", f"P{number % PARTICIPANTS}", BASE_MS + number)) + "\n")
    return str(path)


def test_packet_ids_wrap(tmp_path: Path, postgres_server: PostgresAddress, recording: str) -> None:
    with station(tmp_path, postgres_server, mqtt={"receive_maximum": RECEIVE_MAXIMUM}) as at, at.daemon() as running:
        at.command("replay", recording, "--speed", "0")
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
        assert max(newest.values()) == "2026-06-01T08:01:06.534Z"
        assert conserved(seen)
        assert running.stop() == 0


def test_no_packet_id_comes_twice_before_it_is_acknowledged(
    tmp_path: Path, postgres_server: PostgresAddress, recording: str
) -> None:
    """This broker lets each acknowledgement be followed by receive_maximum messages, as long as it has some queued."""
    with (
        station(tmp_path, postgres_server, postgres={"spool": "no", "queue_rows": 2 * MESSAGES}) as at,
        at.daemon() as running,
    ):
        taken = [0.0]

        def takes_no_more() -> bool:
            taken.append(running.metrics()["tracking_messages_received_total"])
            return taken[-1] > RECEIVE_MAXIMUM and taken[-50:] == taken[-1:] * 50

        with at.db.transaction():
            at.db.execute("lock table tracking_positions in exclusive mode")
            at.command("replay", recording, "--speed", "0")
            until(takes_no_more, "the daemon takes no more")
        with at.db.transaction():
            at.db.execute("lock table tracking_positions in exclusive mode")  # granted after the batch that waited
            taken.append(0.0)
            until(takes_no_more, "the daemon takes no more, or all")
        seen = running.settled(MESSAGES)
        assert seen["tracking_acks_total"] == seen["tracking_messages_received_total"] == MESSAGES
        assert taken[-1] < 65_535
        assert conserved(seen)
        assert running.stop() == 0
