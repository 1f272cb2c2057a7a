"""File descriptors run out: fixes go on being taken, and dashboards come back as soon as there are some again."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.faults.proxy import proxy_to
from tests.faults.spectator import Spectator
from tests.kit.daemon import Running, until
from tests.kit.expected import fix, now_ms
from tests.kit.live_state import snapshot
from tests.kit.station import Station, station

pytestmark = pytest.mark.live

SPARE = 10
"""Descriptors that the daemon may still open when the flood begins."""
FLOOD = 100


def open_files(running: Running) -> int:
    return len(list(Path(f"/proc/{running.process.pid}/fd").iterdir()))


@contextmanager
def flood(running: Running) -> Iterator[None]:
    """So many connections, which say nothing, that the daemon cannot accept them all."""
    limit = open_files(running) + SPARE
    resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    with ExitStack() as connections:
        for _ in range(FLOOD):
            connections.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=30))
        until(lambda: open_files(running) >= limit, "none are left")
        yield


def count(at: Station, race: str) -> int:
    return len(at.rows(race))


def test_exhausted(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """Meanwhile PostgreSQL and the broker drop their connections, and whatever becomes free goes to the flood."""
    with (
        station(tmp_path, postgres_server, ws={"handshake_timeout_s": 60}) as at,
        proxy_to(at.broker.port) as broker_door,
        proxy_to(at.postgres.port) as postgres_door,
    ):
        at.keys |= {
            "mqtt": {"broker_url": f"mqtt://127.0.0.1:{broker_door.port}"},
            "postgres": {"port": postgres_door.port},
        }
        with (
            at.daemon() as running,
            Press(at.broker.port, rate=200) as press,
            Spectator(at.port, ["R"]) as spectator,
        ):
            until(lambda: len(press.acknowledged) > 200)
            with flood(running):
                before = count(at, "R")
                until(lambda: count(at, "R") > before + 200, "fixes go on")
                at.send(fix("new", "P1", now_ms()))  # a race that cannot be restored
                until(lambda: count(at, "new") == 1)
                broker_door.reset()
                postgres_door.reset()
                said = running.log.count("cannot accept a connection")
                until(lambda: running.log.count("cannot accept a connection") > said + 1, "it is said once a second")
            until(lambda: set(snapshot(running, "new")["new"]) == {"P1"}, "dashboards work again")
            until(lambda: running.get("/readyz/ingest")[0] == 200)
            enough = len(press.acknowledged) + 200
            until(lambda: len(press.acknowledged) > enough)
            check(at, running, press, [spectator])
            assert running.stop() == 0
