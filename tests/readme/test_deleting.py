"""README.md's way to delete a person works as it stands there, and is needed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.daemon import Running, until
from tests.kit.expected import fix, now_ms
from tests.kit.live_state import cached, seen, snapshot
from tests.kit.readme import README, block
from tests.kit.station import Station, station

pytestmark = pytest.mark.live

RACE, THEY, OTHER = "R2025-07", "P001", "P002"
TOPIC = f"tracking/{THEY}/position"


@pytest.fixture
def at(tmp_path: Path, postgres_server: PostgresAddress) -> Iterator[Station]:
    with station(tmp_path, postgres_server) as made:
        yield made


def delete_from_postgres(at: Station) -> None:
    for statement in block("sql", "DELETE FROM tracking_positions").split(";\n"):
        at.db.execute(statement.encode())


def delete_from_redis(at: Station) -> None:
    for line in block("sh", "redis-cli ZREM").splitlines():
        program, *command = shlex.split(line)
        assert program == "redis-cli"
        run: Callable[..., Any] = at.cache.execute_command
        assert run(*command) == 1, line


def let_the_broker_forget(at: Station) -> None:
    (line,) = re.findall(r"`(mosquitto_pub -r [^`]+)`", README)
    subprocess.run([*shlex.split(line), "-p", str(at.broker.port)], check=True)
    at.published += 1


def spool_is_empty(running: Running) -> bool:
    assert "`tracking_fixes_spooled` in `/metrics` is 0" in README
    return running.metrics()["tracking_fixes_spooled"] == 0


def traces(at: Station, running: Running) -> list[str]:
    """Where they still are."""
    races = json.loads(running.get("/api/races")[1])["races"]
    tables = ("tracking_positions", "tracking_participants", "tracking_rejections")
    named = "select 1 from {} t where t::text like '%%' || %s || '%%'"
    return [
        *(table for table in tables if at.db.execute(named.format(table).encode(), (THEY,)).fetchall()),
        *(key for key in at.cache.scan_iter("*") if THEY in key),
        *(["seen"] if THEY in seen(at, RACE) else []),
        *(["rank"] if at.cache.hexists(f"race:{RACE}:rank", THEY) else []),
        *(["live"] if THEY in running.live(RACE) else []),
        *(["snapshot"] if THEY in snapshot(running, RACE)[RACE] else []),
        *(["history"] if THEY in running.get(f"/api/races/{RACE}/history")[1].decode() else []),
        *(["races"] if [race for race in races if race["participants"] != 1] else []),
    ]  # fmt: skip


def test_a_person_is_deleted_for_good(at: Station) -> None:
    start = now_ms() - 60_000
    with at.daemon() as running:
        at.send(*(fix(RACE, who, start + n) for n in range(3) for who in (THEY, OTHER)))
        at.send(fix(RACE, THEY, start + 10), topic=TOPIC, retain=True)
        at.send(fix(RACE, THEY, start, latitude=99), topic=TOPIC)
        until(lambda: cached(at, RACE, THEY).get("timestamp", "").endswith(f"{(start + 10) % 1000:03}Z"))
        running.settled(at.published)
        assert len(traces(at, running)) == 10, "everywhere"
        delete_from_postgres(at)
        assert running.stop() == 0
    with at.daemon() as running:
        assert THEY in running.live(RACE), "from Redis"
        let_the_broker_forget(at)
        running.settled(1)
        until(lambda: spool_is_empty(running))
        assert running.stop() == 0
    delete_from_postgres(at)
    delete_from_redis(at)
    for turn in range(2):
        with at.daemon() as running:
            at.send(fix(RACE, OTHER, start + 1000 + turn))
            running.settled(at.published)
            until(lambda: set(seen(at, RACE)) == {OTHER})
            assert traces(at, running) == []
            assert running.stop() == 0
