"""Several nodes: what one of them reads is live on all, whatever happens to Redis or to one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress, RedisAddress, Secret
from tests.faults.spectator import Spectator
from tests.kit.daemon import Running, external, started, until, write_settings
from tests.kit.expected import fix, now_ms, utc
from tests.kit.servers import free_port
from tests.kit.station import Station, station

pytestmark = pytest.mark.live
RELAY: dict[str, object] = {"relay": "yes"}
PEOPLE = 5


@contextmanager
def node(at: Station, name: str, client_id: str = "", **cluster: object) -> Iterator[Running]:
    """Another one beside the station's."""
    folder, port = at.folder / name, free_port()
    folder.mkdir()
    sections = external(at.broker.port, RedisAddress(password=Secret(""), port=at.redis.port), at.postgres, port)
    sections["app"]["node_id"] = name
    sections["cluster"] = {**RELAY, **cluster}
    if client_id:
        sections["mqtt"]["client_id"] = client_id
    with started(write_settings(folder, sections), port) as running:
        running.until_ready()
        yield running


def send(at: Station, times: int, race: str = "R") -> None:
    """A fix of everybody each time, of a moment that no other has."""
    for _ in range(times):
        at.send(*[fix(race, f"P{who}", utc(now_ms() + at.published)) for who in range(PEOPLE)])


def agree(here: Spectator, there: Spectator, what: str, within_s: float = 10.0) -> None:
    until(lambda: len(here.shown()) == PEOPLE and here.shown() == there.shown(), what, within_s)


def test_dashboards_of_a_node_that_reads_nothing_see_all(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with (
        station(tmp_path, postgres_server, cluster=RELAY) as at,
        at.daemon() as reading,
        node(at, "second", ingest="none") as watching,
        Spectator(at.port, ("R",)) as here,
        Spectator(watching.port, ("R",)) as there,
    ):
        send(at, 30)
        agree(here, there, "live on both")
        until(lambda: watching.live("R") == reading.live("R"), "the same by HTTP")

        at.redis.kill()
        send(at, 5)
        agree(here, there, "by PostgreSQL, without Redis")
        at.redis.start()
        until(lambda: b'"relay":{"up":true' in watching.get("/readyz")[1].replace(b" ", b""), "Redis is back")
        agree(here, there, "soon after", 1.5)
        send(at, 5)
        agree(here, there, "as before")
        assert watching.stop() == 0
        assert reading.stop() == 0


def test_two_nodes_that_both_take_everything(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with (
        station(tmp_path, postgres_server, cluster=RELAY) as at,
        at.daemon() as first,
        node(at, "second", client_id="second") as second,
        Spectator(at.port, ("R",)) as here,
        Spectator(second.port, ("R",)) as there,
    ):
        send(at, 20)
        agree(here, there, "live on both")
        second.kill()
        send(at, 20)
        first.settled(at.published)
        assert len(at.rows()) == at.published
