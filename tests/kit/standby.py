"""A PostgreSQL whose commits wait for a synchronous standby, and that standby, which can go away and be promoted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg

from tests.kit.postgres import run_as, start_postgres
from tests.kit.servers import START_S, Server, free_port

NAME = "second"
POLL_S = 0.02
WAITING = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"


def sql(server: Server, text: str, database: str = "postgres") -> list[tuple[Any, ...]]:
    """One statement as the superuser, on a connection of its own that waits for no standby."""
    with psycopg.connect(dsn(server), dbname=database, autocommit=True) as db:
        db.execute("set synchronous_commit = local")
        cursor = db.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def dsn(server: Server) -> str:
    return f"host={server.host} port={server.port} user={server.username} dbname=postgres"


@attrs.define(eq=False)
class Pair:
    """`primary` is the address that clients know: after `fail_over` the standby answers there."""

    primary: Server
    standby: Server

    def commits_waiting(self) -> int:
        """Sessions whose commit waits for the standby."""
        ((count,),) = sql(self.primary, WAITING)
        return int(count)

    def attach(self) -> None:
        """Start the standby, and wait until commits go through."""
        self.standby.start()
        attached = "select 1 from pg_stat_replication where sync_state = 'sync' and state = 'streaming'"
        deadline = time.monotonic() + START_S
        while not sql(self.primary, attached):
            assert time.monotonic() < deadline, self.standby.log
            time.sleep(POLL_S)

    def fail_over(self) -> None:
        """The primary's machine is lost; the standby, as far as it came, takes its place and its port."""
        self.primary.kill()
        self.standby.kill()
        self.standby.port = self.primary.port
        self.standby.argv = [*self.standby.argv, f"--port={self.standby.port}"]
        self.standby.start()
        sql(self.standby, "select pg_promote()")
        self.primary = self.standby


@contextmanager
def start_pair(folder: Path) -> Iterator[Pair]:
    """Both run, and every commit waits for the standby from now on."""
    with start_postgres(folder) as primary:
        home = primary.folder / "standby"
        home.mkdir()
        if primary.user is not None:
            shutil.chown(home, primary.user.pw_uid, primary.user.pw_gid)
        run_as(
            primary.user,
            [
                Path(primary.argv[0]).with_name("pg_basebackup"), "--pgdata", home / "data", "--no-sync",
                "--checkpoint=fast", "--write-recovery-conf", "--dbname", f"{dsn(primary)} application_name={NAME}",
            ],
            home,
        )  # fmt: skip
        port = free_port()
        argv = [word.replace(str(primary.folder / "data"), str(home / "data")) for word in primary.argv]
        standby = attrs.evolve(
            primary, folder=home, port=port, argv=[*argv, f"--port={port}"], ready=answers, process=None
        )
        pair = Pair(primary, standby)
        try:
            sql(primary, f"alter system set synchronous_standby_names = '{NAME}'")
            sql(primary, "select pg_reload_conf()")
            pair.attach()
            yield pair
        finally:
            standby.kill()


def answers(server: Server) -> bool:
    """A standby takes questions, too."""
    try:
        psycopg.connect(dsn(server)).close()
    except psycopg.OperationalError:
        return False
    return True
