"""The daemon behind PgBouncer: what happens to the pool is what happens to PostgreSQL; set up wrongly, it is said."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from tests.faults.outage import Own, RaceDay
from tests.kit.daemon import until
from tests.kit.pooler import Pooler, needs_pgbouncer, start_pgbouncer
from tests.kit.station import conninfo

pytestmark = [pytest.mark.live, needs_pgbouncer]


def through(pooler: Pooler, **keys: object) -> dict[str, object]:
    return {"host": "127.0.0.1", "port": pooler.address.port, "spool_after_s": 1, **keys}


def test_a_race_over_a_pool_that_others_use_too(own: Own, tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        start_pgbouncer(tmp_path_factory.mktemp("p"), own.at.postgres, "transaction", default_pool_size=2) as pooler,
        own.race("pooled", rate=200, postgres=through(pooler)) as day,
        closing(psycopg.connect(conninfo(pooler.address), autocommit=True, prepare_threshold=None)) as other,
        closing(psycopg.connect(conninfo(pooler.admin), autocommit=True, prepare_threshold=None)) as admin,
    ):
        before = len(day.running.log)
        for _ in range(20):
            other.execute("set search_path = pg_catalog; set synchronous_commit = off; set lock_timeout = 1")
            day.flows()
        assert "component=postgres" not in day.running.log[before:]
        console(admin, "reconnect")
        day.flows(100)
        console(admin, "pause")
        spooled(day)
        console(admin, "resume")
        until(lambda: day.metric("fixes_spooled") == 0, "the spool is drained")
        own.server.kill()
        spooled(day)
        pooler.server.stop()  # and back before its PostgreSQL is
        pooler.server.start()
        spooled(day)
        own.server.start()
        day.check()
        assert "set-up" not in day.running.log


def test_statement_pooling_is_a_fault_of_the_set_up(own: Own, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not an outage: nothing is spooled for ever."""
    with (
        start_pgbouncer(tmp_path_factory.mktemp("p"), own.at.postgres, "transaction") as pooler,
        own.race("modes", rate=200, postgres=through(pooler)) as day,
        closing(psycopg.connect(conninfo(pooler.admin), autocommit=True, prepare_threshold=None)) as admin,
    ):
        console(admin, "set pool_mode = 'statement'")
        console(admin, f"kill {own.at.postgres.database}")
        console(admin, f"resume {own.at.postgres.database}")
        day.takes_nothing(why="set-up: transaction blocks not allowed in statement pooling mode")
        assert day.metric("fixes_spooled") == 0
        console(admin, "set pool_mode = 'transaction'")
        day.check()


def console(admin: psycopg.Connection, command: str) -> None:
    """PgBouncer's own: simple queries only."""
    admin.pgconn.exec_(command.encode())


def spooled(day: RaceDay) -> None:
    """Until more rows are in the spool."""
    goal = day.metric("fixes_spooled") + 50
    until(lambda: day.metric("fixes_spooled") >= goal, "rows go to the spool")
