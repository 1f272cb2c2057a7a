"""A list of servers: the primary is lost, its standby is promoted, and everything goes on there by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from actors.core.addresses import PostgresAddress
from actors.settings.load import Secret
from tests.faults.outage import RaceDay, race_day
from tests.kit.daemon import until
from tests.kit.servers import Server
from tests.kit.standby import Pair, sql, start_pair
from tests.kit.station import station

pytestmark = pytest.mark.live

FOUND_S = 15.0
"""A second or two on a machine that does not stall, also where the primary hangs."""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    (tmp_path / "postgres").mkdir()
    with start_pair(tmp_path / "postgres") as made:
        yield made


@contextmanager
def race(pair: Pair, folder: Path, *, rate: float = 100.0) -> Iterator[RaceDay]:
    """A day on a daemon that knows both, the standby first."""
    server = pair.primary
    address = PostgresAddress(server.host, server.port, server.username, Secret(""), server.database)
    hosts = f"{server.host}:{pair.standby.port}, {server.host}:{server.port}"
    with station(folder, address, postgres={"host": hosts, "spool_after_s": 1}) as at:
        try:
            with at.daemon() as running, race_day(at, running, "R", rate) as day:
                yield day
        finally:  # for who drops the database
            if server.process is None:
                server.start()
            server.sigcont()
            wait_for_no_standby(server)


def promote(pair: Pair, day: RaceDay) -> None:
    """And it is what is looked at from now on."""
    sql(pair.standby, "select pg_promote()")
    day.at.postgres = attrs.evolve(day.at.postgres, port=pair.standby.port)


def found(day: RaceDay) -> None:
    """It is written to."""
    began, goal = time.monotonic(), day.metric("fixes_committed_total") + 10
    until(lambda: day.metric("fixes_committed_total") > goal, "the promoted one is found", FOUND_S)
    print(f"found after {time.monotonic() - began:.2f} s")


def wait_for_no_standby(server: Server) -> None:
    sql(server, "alter system set synchronous_standby_names = ''")
    sql(server, "select pg_reload_conf()")


def stop_copying(standby: Server) -> None:
    """What is committed from now on it will not have."""
    sql(standby, "alter system set primary_conninfo = ''")
    sql(standby, "select pg_reload_conf()")
    until(lambda: not sql(standby, "select 1 from pg_stat_wal_receiver"), "it receives nothing")


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_with_a_synchronous_standby_nothing_is_lost(pair: Pair, tmp_path: Path, fault: str) -> None:
    with race(pair, tmp_path) as day:
        if fault == "killed":
            pair.primary.kill()
        else:
            pair.primary.sigstop()
        until(lambda: day.metric("fixes_spooled") > 20, "rows go to the spool")
        promote(pair, day)
        wait_for_no_standby(pair.standby)
        found(day)
        day.check()
        assert day.metric("fixes_written_again_total") == 0


def test_with_another_standby_what_it_lacks_is_written_again_and_counted(pair: Pair, tmp_path: Path) -> None:
    wait_for_no_standby(pair.primary)
    with race(pair, tmp_path) as day:
        stop_copying(pair.standby)
        day.flows(100)
        pair.primary.kill()
        until(lambda: day.metric("fixes_spooled") > 20, "rows go to the spool")
        promote(pair, day)
        found(day)
        day.check()
        assert day.metric("fixes_written_again_total") >= 100
        assert "postgresql had lost rows that it had confirmed" in day.running.log
