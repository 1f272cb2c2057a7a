"""`check` against a PostgreSQL that is there, weak, wrong, silent or absent."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import trio

from actors.core.addresses import PostgresAddress
from actors.history.postgres import migration
from actors.settings.load import Secret, Settings
from tests.commands.check_settings import about, levels, scripted, until_closed, with_postgres
from tests.commands.check_settings import impatient as impatient
from tests.commands.check_settings import settings as settings
from tests.kit.servers import free_port
from tests.kit.standby import NAME, sql, start_pair
from tests.kit.stores import Database

pytestmark = pytest.mark.live


def test_postgres(settings: Settings, postgres_server: PostgresAddress) -> None:
    found = about(with_postgres(settings, postgres_server), "postgres")
    assert found[0].level == "ok"
    assert "answers, version 1" in found[0].text
    # As tests/kit/stores.py starts it, and nobody made tables in that database.
    assert [finding.level for finding in found[1:]] == ["warning", "warning"]
    assert "fsync is off" in found[1].text
    assert "no table tracking_positions yet" in found[2].text


def test_what_a_database_does_not_give(settings: Settings, postgres_server: PostgresAddress) -> None:
    for changes in (
        {"password": Secret("hunter2")},
        {"database": "nowhere"},
        {"host": "127.0.0.1", "port": free_port()},
    ):
        [found] = about(with_postgres(settings, postgres_server, **changes), "postgres")
        assert found.level == "FAILED"
        assert "hunter2" not in found.text
        assert "\n" not in found.text


def test_weak_spots_of_a_database(settings: Settings, postgres_server: PostgresAddress) -> None:
    name = f"weak_{os.getpid()}"
    login = {
        "host": postgres_server.host,
        "port": postgres_server.port,
        "user": postgres_server.user,
        "password": postgres_server.password.reveal(),
        "dbname": postgres_server.database,
    }
    with closing(psycopg.connect(**login, autocommit=True)) as admin:  # type: ignore[arg-type]  # of several types
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'".encode())
        try:
            for option in ("synchronous_commit = off", "default_transaction_read_only = on"):
                admin.execute(f"ALTER DATABASE {name} SET {option}".encode())
            found = about(with_postgres(settings, postgres_server, database=name), "postgres")
        finally:
            admin.execute(f"DROP DATABASE {name}".encode())
    texts = [f"{finding.level} {finding.text}" for finding in found]
    for wanted in (
        "warning synchronous_commit is off",
        "FAILED the encoding of the database is LATIN1",
        "FAILED is read",
    ):
        assert [text for text in texts if text.startswith(wanted)], texts


async def test_a_table_that_the_daemon_refuses(settings: Settings, database: Database) -> None:
    async def found() -> list[str]:
        lines = await trio.to_thread.run_sync(about, with_postgres(settings, database.address), "postgres")
        return [f"{line.level} {line.text}" for line in lines if "fsync" not in line.text][1:]

    await migration.apply(database.connection)
    assert await found() == []
    await database.run("drop index idx_tracking_race_id")
    await database.run(
        "alter table tracking_positions alter longitude type real, drop constraint tracking_positions_pkey"
    )
    assert await found() == [
        "warning lacks index idx_tracking_race_id: the daemon or `migrate` makes them",
        "FAILED table tracking_positions: column longitude is real, not numeric(10,7); id has no primary key or unique"
        " index; see schema.sql",
    ]


def test_a_synchronous_standby_that_is_missing(settings: Settings, tmp_path: Path) -> None:
    with start_pair(tmp_path) as pair:
        server = pair.primary
        there = with_postgres(settings, PostgresAddress(server.host, server.port, database="postgres"))
        assert not [finding for finding in about(there, "postgres") if "standby" in finding.text]
        sql(server, f"alter system set synchronous_standby_names = 'ANY 2 ({NAME}, third)'")
        sql(server, "select pg_reload_conf()")
        for attached in (1, 0):
            (missing,) = [finding for finding in about(there, "postgres") if "standby" in finding.text]
            assert missing.level == "warning"
            assert f"{attached} of 2 attached (synchronous_standby_names = 'ANY 2" in missing.text
            pair.standby.kill()
        sql(server, "alter database postgres set synchronous_commit = local")
        assert not [finding for finding in about(there, "postgres") if "standby" in finding.text]


def test_every_server_of_a_list(settings: Settings, tmp_path: Path) -> None:
    with start_pair(tmp_path) as pair:
        ports = (pair.standby.port, pair.primary.port, free_port())
        address = PostgresAddress("127.0.0.1", database="postgres")

        def told(*ports: int) -> list[str]:
            there = with_postgres(settings, address, host=",".join(f"127.0.0.1:{port}" for port in ports))
            return [f"{one.level} {one.text}" for one in about(there, "postgres") if "fsync" not in one.text]

        where = [f"127.0.0.1:{port}/postgres" for port in ports]
        found = told(*ports)
        assert [one.partition(" answers, version 18")[0] for one in found] == [
            f"ok {where[0]}", f"ok {where[1]}", found[2], found[3]
        ]  # fmt: skip
        assert found[0].endswith(", standby: history is read from it while no other one answers")
        assert found[1].endswith(", takes writes")
        assert found[2].startswith("warning has no table tracking_positions yet")
        assert found[3].startswith(f"warning {where[2]} cannot be used: ")
        found = told(ports[0], ports[2])
        assert [one.split()[0] for one in found] == ["ok", "FAILED", "warning", "FAILED", "FAILED"]
        assert found[-1] == "FAILED none of the servers can be used for writing"
        sql(pair.primary, "alter system set synchronous_standby_names = ''")
        sql(pair.primary, "select pg_reload_conf()")
        sql(pair.standby, "select pg_promote()")
        assert told(*ports[:2])[-1].startswith("warning 2 servers take writes: ")


@pytest.mark.usefixtures("impatient")
def test_a_silent_postgres(settings: Settings) -> None:
    with scripted(until_closed) as port:
        address = PostgresAddress("127.0.0.1", port)
        assert levels(with_postgres(settings, address, sslmode="disable"), "postgres") == ["FAILED"]
