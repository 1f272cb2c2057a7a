"""Servers for benchmarks: those of the tests, but with what would distort a measurement put right."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg

from actors.core.addresses import PostgresAddress, RedisAddress
from actors.settings.load import Secret
from tests.kit.postgres import start_postgres
from tests.kit.servers import Server, start_mosquitto, start_redis
from tests.kit.station import conninfo

POSTGRES = {
    "fsync": "on",
    "shared_buffers": "256MB",
    "track_commit_timestamp": "on",
    "track_wal_io_timing": "on",
    "max_wal_size": "4GB",  # no checkpoint in the middle of a measurement
    "maintenance_work_mem": "512MB",
}
POLL_S = 0.2
"""Between questions whether all rows are there: counting costs PostgreSQL some milliseconds."""

COMMITTED = """
    select count(*), count(*) filter (where committed = earliest), min(committed), max(committed),
        percentile_disc(array[0.5, 0.99, 1]) within group (order by (committed - published) * 1000)
      from (select *, min(committed) over () as earliest
        from (select extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as committed,
            extract(epoch from client_timestamp)::float8 as published
          from tracking_positions where starts_with(race_id, %s) and client_timestamp >= to_timestamp(%s)) as rows
      ) as rows"""
COUNT = (
    "select count(*) from tracking_positions where starts_with(race_id, %s) and client_timestamp >= to_timestamp(%s)"
)
WAL_FLUSH = """
    select coalesce(sum(fsync_time) / nullif(sum(fsyncs), 0), 0)::float8 from pg_stat_io
      where object = 'wal' and backend_type = 'client backend'"""


@attrs.frozen
class Committed:
    """When the rows of a load were committed, by PostgreSQL's own record.

    A transaction's moment is noted when its commit record is written, just before that is flushed to disk: one flush
    (`Site.flush_ms`) has to be added until its client hears of it.
    """

    rows: int
    first_rows: int  # in the first transaction
    first_s: float  # Unix time
    last_s: float
    p50_ms: float  # from a fix's timestamp, the moment of publishing
    p99_ms: float
    max_ms: float


@attrs.frozen
class Site:
    """A broker, PostgreSQL and Valkey on 127.0.0.1, without passwords."""

    folder: Path
    program: Path  # the supervisor.py of the daemon that is measured
    broker: Server
    postgres: Server
    redis: Server

    @property
    def redis_address(self) -> RedisAddress:
        return RedisAddress(password=Secret(""), port=self.redis.port)

    def database(self, name: str) -> PostgresAddress:
        """The address of a database."""
        return PostgresAddress(self.postgres.host, self.postgres.port, self.postgres.username, Secret(""), name)

    def afresh(self, name: str, schema: str = "") -> PostgresAddress:
        """What every turn starts from: a new database, empty broker and cache, and no checkpoint due.

        The broker must forget the daemon's session, or it would queue for it what is published for the next one.
        """
        for server in (self.broker, self.redis):
            server.stop()
            server.start()
        self.sql("postgres", f"drop database if exists {name} with (force)")
        self.sql("postgres", f"create database {name}")
        if schema:
            self.sql(name, schema)
        self.sql("postgres", "checkpoint")
        return self.database(name)

    def sql(self, database: str, statement: str, values: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run it on a connection of its own; its rows."""
        with psycopg.connect(conninfo(self.database(database)), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def committed(self, database: str, race_id: str, began_s: float, rows: int, within_s: float) -> Committed:
        """Once so many rows are there: of races whose id begins with this one, published since then (Unix time)."""
        deadline = time.monotonic() + within_s
        values = (race_id, int(began_s * 1000) / 1000)  # a fix's timestamp has no more than milliseconds
        while (there := self.sql(database, COUNT, values)[0][0]) < rows:
            assert time.monotonic() < deadline, f"{there} of {rows} rows after {within_s:g} s"
            time.sleep(POLL_S)
        ((*found, latencies_ms),) = self.sql(database, COMMITTED, values)
        return Committed(*found, *latencies_ms)

    def flush_ms(self) -> float:
        """What making a transaction durable took PostgreSQL, on average since it was started."""
        return float(self.sql("postgres", WAL_FLUSH)[0][0])


@contextmanager
def start_site(folder: Path, program: Path) -> Iterator[Site]:
    """The broker does not log each packet, PostgreSQL syncs as in production."""
    with ExitStack() as stack:
        servers = []
        for start in (start_mosquitto, start_postgres, start_redis):
            own = folder / start.__name__
            own.mkdir(parents=True)
            servers.append(stack.enter_context(start(own)))
        site = Site(folder, program, *servers)
        site.broker.stop()
        site.broker.argv = [part for part in site.broker.argv if part != "-v"]
        site.broker.start()
        site.postgres.stop()
        site.postgres.argv = [*site.postgres.argv, *(f"--{key}={value}" for key, value in POSTGRES.items())]
        site.postgres.start()
        yield site
