"""schema.sql and its application to databases in every state."""

from __future__ import annotations

import subprocess
from argparse import Namespace
from pathlib import Path

import attrs
import pytest
import trio

from actors.commands import migrate
from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.postgres import migration
from actors.history.postgres.libpq import connect
from actors.history.postgres.table_check import check_session, check_table
from actors.settings.load import Secret, Settings
from tests.kit.postgres import postgres_binaries
from tests.kit.stores import PASSWORD, Database

pytestmark = pytest.mark.live

ALL = [str(item) for item in migration.parse(migration.SCHEMA.read_text()) if item.kind != "setting"]

PEER = """
create type participant_status as enum ('moving', 'stopped', 'finished', 'disqualified');
create table tracking_positions (
  id uuid primary key default gen_random_uuid(), participant_id varchar(50) not null, race_id varchar(50) not null,
  latitude numeric(10, 7) not null, longitude numeric(10, 7) not null, client_timestamp timestamptz not null,
  server_received_at timestamptz default now() not null, status participant_status default 'moving' not null);
create index idx_tracking_race_id on tracking_positions (race_id);
insert into tracking_positions (race_id, participant_id, latitude, longitude, client_timestamp)
  select 'R' || r, 'P' || p, 1, 2, now()
  from generate_series(1, 7) r, generate_series(1, 5) p, generate_series(1, 3);"""

ROW = "insert into tracking_positions (race_id, participant_id, latitude, longitude, client_timestamp) values "


async def participants(database: Database) -> list[list[str]]:
    return await database.rows("select race_id::text, participant_id::text from tracking_participants order by 1, 2")


async def test_an_empty_database_gets_everything_once(database: Database) -> None:
    assert await migration.plan(database.connection) == ALL
    assert await migration.apply(database.connection) == ALL
    assert await migration.plan(database.connection) == []
    assert await migration.apply(database.connection) == []
    await check_table(database.connection)
    columns = await database.rows(
        "select attname::text, format_type(atttypid, atttypmod), attnotnull::text,"
        " coalesce(pg_get_expr(adbin, adrelid), '')"
        " from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum"
        " where attrelid = 'tracking_positions'::regclass and attnum > 0 order by attnum"
    )
    assert columns == [
        ["id", "uuid", "true", "gen_random_uuid()"],
        ["participant_id", "character varying(50)", "true", ""],
        ["race_id", "character varying(50)", "true", ""],
        ["latitude", "numeric(10,7)", "true", ""],
        ["longitude", "numeric(10,7)", "true", ""],
        ["client_timestamp", "timestamp with time zone", "true", ""],
        ["server_received_at", "timestamp with time zone", "true", "now()"],
        ["status", "participant_status", "true", "'moving'::participant_status"],
    ]
    indexes = await database.rows(
        "select indexname::text, regexp_replace(indexdef, '.*USING btree ', '') from pg_indexes"
        " where tablename = 'tracking_positions' and indexname like 'idx%' order by 1"
    )
    assert dict(indexes) == {
        "idx_tracking_participant_id": "(participant_id)",
        "idx_tracking_participant_timestamp": "(participant_id, client_timestamp)",
        "idx_tracking_race_id": "(race_id)",
        "idx_tracking_race_timestamp": "(race_id, client_timestamp)",
        "idx_tracking_race_participant_timestamp": "(race_id, participant_id, client_timestamp)",
    }


async def test_a_table_made_by_others_keeps_its_rows_and_gets_what_is_missing(database: Database) -> None:
    await database.run(PEER)
    made = await migration.apply(database.connection)
    assert "table tracking_positions" not in made
    assert "index idx_tracking_race_id" not in made
    assert "index idx_tracking_race_timestamp" in made
    await check_table(database.connection)
    assert await database.rows("select count(*)::text from tracking_positions") == [["105"]]
    assert await participants(database) == [[f"R{r}", f"P{p}"] for r in range(1, 8) for p in range(1, 6)]


async def test_the_participants_follow_every_kind_of_change(database: Database) -> None:
    await migration.apply(database.connection)
    await database.run(ROW + "('R1', 'P1', 1, 2, now()), ('R1', 'P1', 1, 2, now()), ('R1', 'P2', 1, 2, now())")
    assert await participants(database) == [["R1", "P1"], ["R1", "P2"]]
    await database.run("update tracking_positions set race_id = 'R2' where participant_id = 'P2'")
    assert await participants(database) == [["R1", "P1"], ["R2", "P2"]]
    await database.run("delete from tracking_positions where participant_id = 'P2'")
    assert await participants(database) == [["R1", "P1"]]
    await database.run("truncate tracking_positions")
    assert await participants(database) == []


async def test_a_writer_needs_no_right_on_the_participants(database: Database) -> None:
    await migration.apply(database.connection)
    await database.run(
        "grant insert on tracking_positions to pg_monitor; set role pg_monitor; " + ROW + "('R', 'P', 1, 2, now())"
    )
    await database.run("reset role")
    assert await participants(database) == [["R", "P"]]


async def test_no_right_and_no_lock_is_needed_where_nothing_is_missing(database: Database) -> None:
    await migration.apply(database.connection)
    busy = await connect(database.address, "test", 10)
    await busy.script("begin; lock table tracking_positions in access exclusive mode")
    await database.run("set session authorization pg_monitor")
    assert await migration.apply(database.connection) == []
    busy.close()


async def test_a_missing_right_is_said_with_what_to_do(database: Database) -> None:
    await database.run("set session authorization pg_monitor")
    with pytest.raises(StoreMisconfigured, match=r"permission denied for schema public.*lacks type .* migrate"):
        await migration.apply(database.connection)


async def test_several_daemons_at_once_make_each_thing_once(database: Database) -> None:
    made: list[str] = []

    async def daemon() -> None:
        connection = await connect(database.address, "test", 10)
        made.extend(await migration.apply(connection))
        connection.close()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(daemon)
    assert sorted(made) == sorted(ALL)


async def test_a_busy_table_is_given_up_after_a_while(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "WAIT_FOR_LOCK", "50ms")
    await database.run(PEER)
    busy = await connect(database.address, "test", 10)
    await busy.script("begin; delete from tracking_positions")
    with pytest.raises(StoreUnavailable, match="lock timeout"), trio.fail_after(60):
        await migration.apply(database.connection)
    busy.close()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("alter table tracking_positions drop column status", "column status is missing"),
        ("alter table tracking_positions alter latitude type real", "column latitude is real, not numeric"),
        ("alter table tracking_positions alter latitude type numeric(9,6)", r"column latitude is numeric\(9,6\)"),
        (
            "truncate tracking_positions; alter table tracking_positions add team text not null",
            "column team is not ours",
        ),
        ("alter table tracking_positions drop constraint tracking_positions_pkey", "no primary key"),
        ("alter type participant_status rename value 'stopped' to 'halted'", "lacks 'stopped'"),
    ],
)
async def test_a_table_that_cannot_be_written_is_named(database: Database, change: str, problem: str) -> None:
    await database.run(PEER + change)
    with pytest.raises(StoreMisconfigured, match=problem):
        await check_table(database.connection)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_the_command_says_what_it_cannot_mend(
    database: Database, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    await database.run(PEER + "alter table tracking_positions alter latitude type real")
    pg = attrs.evolve(
        Settings().postgres,
        host=database.address.host, port=database.address.port, password=database.address.password,
        database=database.address.database,
    )  # fmt: skip
    settings = attrs.evolve(Settings(), postgres=pg)
    arguments = Namespace(dry_run=dry_run, partition=None, since=None)
    for _ in range(2):
        code = await trio.to_thread.run_sync(migrate.run, arguments, settings)
        told = capsys.readouterr()
        assert code == 1
        assert told.err.startswith("table tracking_positions: column latitude is real, not numeric(10,7);")
    assert ("would create index idx_tracking_race_timestamp" in told.out) is dry_run
    await database.run(f"alter database {database.address.database} set default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable, match="read-only"):
        await trio.to_thread.run_sync(migrate.run, arguments, settings)


async def test_a_table_with_more_to_it_is_fine(database: Database) -> None:
    await database.run(
        PEER + "alter table tracking_positions add team text not null default '', alter race_id type text"
    )
    await check_table(database.connection)


async def test_a_database_that_cannot_hold_every_name_is_refused(database: Database) -> None:
    name = f"{database.address.database}_latin"
    await database.run(f"create database {name} encoding latin1 template template0 locale 'C'")
    latin = await connect(attrs.evolve(database.address, database=name), "test", 10)
    with pytest.raises(StoreMisconfigured, match="LATIN1"):
        await check_session(latin)
    latin.close()
    await database.run(f"drop database {name}")


def test_psql_takes_the_file_twice(postgres_server: PostgresAddress) -> None:
    host, port = postgres_server.host, str(postgres_server.port)
    environment = {"PGPASSWORD": PASSWORD, "PGHOST": host, "PGPORT": port, "PGUSER": "postgres", "PGDATABASE": "psql"}

    def psql(*arguments: str | Path, database: str = "psql") -> None:
        command = [postgres_binaries() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments]
        done = subprocess.run(command, env=environment | {"PGDATABASE": database}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    psql("-c", "create database psql", database="postgres")
    psql("-f", migration.SCHEMA)
    psql("-f", migration.SCHEMA)

    async def plan() -> list[str]:
        connection = await connect(attrs.evolve(postgres_server, database="psql"), "test", 10)
        missing = await migration.plan(connection)
        connection.close()
        return missing

    assert trio.run(plan) == []
    psql("-c", "drop database psql", database="postgres")


async def test_every_refusal_of_a_connection_says_what_to_do(postgres_server: PostgresAddress) -> None:
    with pytest.raises(StoreMisconfigured, match=r'"nowhere" does not exist.*createdb'):
        await connect(attrs.evolve(postgres_server, database="nowhere"), "test", 10)
    with pytest.raises(StoreMisconfigured, match="password authentication failed") as caught:
        await connect(attrs.evolve(postgres_server, password=Secret("wrong-one")), "test", 10)
    assert "wrong-one" not in str(caught.value)
    with pytest.raises(StoreMisconfigured, match="password"):
        await connect(attrs.evolve(postgres_server, password=Secret()), "test", 10)
    with pytest.raises(StoreMisconfigured, match="SSL"):
        await connect(attrs.evolve(postgres_server, host="127.0.0.1", sslmode="require"), "test", 10)
    with pytest.raises(StoreUnavailable, match="refused"):
        await connect(attrs.evolve(postgres_server, host="127.0.0.1", port=1), "test", 10)
    with pytest.raises(StoreUnavailable, match="resolve"):
        await connect(attrs.evolve(postgres_server, host="nowhere.invalid"), "test", 10)


async def test_a_database_closed_for_maintenance_is_away(database: Database) -> None:
    name = database.address.database
    admin = await connect(attrs.evolve(database.address, database="postgres"), "test", 10)
    await admin.script(f"alter database {name} with allow_connections false")
    with pytest.raises(StoreUnavailable, match="not currently accepting connections"):
        await connect(database.address, "test", 10)
    await admin.script(f"alter database {name} with allow_connections true")
    admin.close()


async def test_names_and_addresses_of_a_host_work(postgres_server: PostgresAddress) -> None:
    for host in ("localhost", "127.0.0.1"):
        connection = await connect(attrs.evolve(postgres_server, host=host), "test", 10)
        assert connection.usable
        connection.close()
        assert not connection.usable
