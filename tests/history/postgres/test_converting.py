"""An empty table becomes one in partitions, and keeps everything else that was said of it; one with rows stays."""

from __future__ import annotations

import pytest
import trio

from actors.core.errors import StoreUnavailable
from actors.history.periods import Width
from actors.history.postgres import migration
from actors.history.postgres.attaching import make
from actors.history.postgres.converting import convert
from actors.history.postgres.libpq import connect
from actors.history.postgres.table_check import check_table
from actors.history.postgres.writer import PostgresWriter
from tests.history.postgres.test_attaching import NOW_S
from tests.kit.making import make_fix
from tests.kit.stores import COUNT, Database

pytestmark = pytest.mark.live

TABLE = "'tracking_positions'::regclass"
ABOUT = {
    "columns": f"""select attname::text, format_type(atttypid, atttypmod), attnotnull::text,
      coalesce(pg_get_expr(adbin, adrelid), ''), coalesce(attacl::text, '')
      from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
      where attrelid = {TABLE} and attnum > 0 and not attisdropped order by attnum""",
    "indexes": f"""select indexrelid::regclass::text, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
      from pg_index where indrelid = {TABLE} order by 1""",
    "constraints": f"""select conname::text, pg_get_constraintdef(oid) from pg_constraint
      where conrelid = {TABLE} and contype <> 'n' order by 1""",
    "triggers": f"""select tgname::text, pg_get_triggerdef(oid), tgenabled::text from pg_trigger
      where tgrelid = {TABLE} and not tgisinternal order by 1""",
    "rights": f"select relowner::regrole::text, coalesce(relacl::text, ''), obj_description(oid) from pg_class"
    f" where oid = {TABLE}",
}
KIND = f"select relkind::text from pg_class where oid = {TABLE}"


async def about(database: Database) -> dict[str, list[list[str]]]:
    return {what: await database.rows(sql) for what, sql in ABOUT.items()}


async def test_everything_else_stays(database: Database) -> None:
    """Owner, rights of tables and columns, indexes, keys, checks and triggers, also those of the DBA."""
    await migration.apply(database.connection)
    await database.run("""
        drop role if exists "Table's", viewer; create role "Table's"; create role viewer;
        create table teams (team text primary key);
        alter table tracking_positions add team text default '' references teams, add check (latitude < 90);
        create index by_team on tracking_positions (team) where team <> '';
        create function nothing() returns trigger language plpgsql as 'begin return new; end';
        create trigger theirs before insert on tracking_positions for each row execute function nothing();
        comment on table tracking_positions is 'ours';
        grant create on schema public to "Table's";
        grant select on tracking_positions to public;
        grant select, insert on tracking_positions to viewer with grant option;
        grant update (team) on tracking_positions to viewer;
        alter table tracking_positions owner to "Table's" """)
    before = await about(database)
    assert await convert(database.connection)
    assert await database.rows(KIND) == [["p"]]
    assert await about(database) == before
    assert await migration.plan(database.connection) == []
    await check_table(database.connection)
    await database.run("""reassign owned by "Table's" to postgres; drop owned by "Table's", viewer;
        drop role "Table's", viewer""")


async def test_a_table_without_anything_gets_what_is_missing(database: Database) -> None:
    """Made by hand, with a unique index for a key."""
    await migration.apply(database.connection)
    want = await database.rows(ABOUT["indexes"])
    await database.run("""
        drop table tracking_positions;
        create table tracking_positions (id uuid not null, participant_id text not null, race_id text not null,
          latitude numeric not null, longitude numeric not null, client_timestamp timestamptz not null,
          server_received_at timestamptz, status participant_status);
        create unique index tracking_positions_pkey on tracking_positions (id)""")
    assert await convert(database.connection)
    assert await database.rows(ABOUT["indexes"]) == want
    assert await migration.plan(database.connection) == []


async def test_rows_are_never_moved_or_dropped(database: Database) -> None:
    """Not one that was there, nor one that comes at the same moment."""
    writer = PostgresWriter(database.address)
    await writer.ping()
    busy = await connect(database.address, "test", 10)
    await busy.script("begin; insert into tracking_positions (race_id, participant_id, latitude, longitude,"
                      " client_timestamp) values ('R', 'P', 1, 2, now())")  # fmt: skip
    waits = "select 1::text from pg_stat_activity where wait_event_type = 'Lock' and query like 'lock table%'"
    converted = []

    async def try_it() -> None:
        converted.append(await convert(database.connection))

    other = await connect(database.address, "test", 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(try_it)
        with trio.fail_after(60):
            while not (await other.query(waits)).ntuples:
                await trio.sleep(0.01)
        await busy.script("commit")
    assert converted == [False]
    assert await Database(database.address, other).rows(KIND + " union all " + COUNT) == [["r"], ["1"]]
    for connection in (busy, other):
        connection.close()
    await writer.aclose()


async def test_a_busy_table_is_given_up_after_a_while(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "WAIT_FOR_LOCK", "50ms")
    await migration.apply(database.connection)
    busy = await connect(database.address, "test", 10)
    await busy.script("begin; select * from tracking_positions")
    with pytest.raises(StoreUnavailable, match="lock timeout"):
        await convert(database.connection)
    busy.close()


async def test_a_daemon_that_runs_does_not_notice(database: Database) -> None:
    writer = PostgresWriter(database.address)
    await writer.ping()
    assert await convert(database.connection)
    await make(database.connection, [], Width.WEEK)
    assert await writer.store([make_fix(at_s=NOW_S)]) == 1
    await writer.aclose()
