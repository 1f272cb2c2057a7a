"""Partitions are made beside writers and readers, by several nodes at once, or it is said what to run."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.core.timestamps import DAY_MS
from actors.history.periods import Width, ahead, name_of
from actors.history.postgres import attaching
from actors.history.postgres.attaching import layout, make
from actors.history.postgres.converting import convert
from actors.history.postgres.libpq import PostgresConnection, connect
from actors.history.postgres.migration import apply
from actors.history.postgres.writer import PostgresWriter
from actors.settings.load import Secret
from tests.history.postgres.test_participant_partitions import note_all
from tests.kit.making import BASE_MS, make_fix
from tests.kit.stores import Database

pytestmark = pytest.mark.live

TABLES = """
select relid::regclass::text from pg_partition_tree('tracking_positions') where isleaf order by relid::regclass::text"""
NOW_S = time.time() - BASE_MS / 1000


@pytest.fixture
async def empty(database: Database) -> Database:
    """A table in partitions, without any."""
    await apply(database.connection)
    assert await convert(database.connection)
    return database


@pytest.fixture
async def writer(empty: Database) -> AsyncIterator[PostgresWriter]:
    writer = PostgresWriter(empty.address)
    yield writer
    await writer.aclose()


async def tables(database: Database) -> list[str]:
    return [name for (name,) in await database.rows(TABLES)]


async def names(database: Database, width: Width) -> list[str]:
    """Of those that an empty table gets."""
    there = await layout(database.connection)
    assert there is not None
    return [name_of(each, width) for each in ahead([], width, there.now_ms)]


@pytest.mark.parametrize("width", list(Width))
async def test_what_is_missing_is_made(empty: Database, writer: PostgresWriter, width: Width) -> None:
    """Once; each index of the table is one of the partition's; rows of now have a place, and their participants."""
    assert await writer.make_partitions() == [], "nobody has said of which width"
    made: list[str] = []
    await make(empty.connection, made, width)
    assert made == await names(empty, width) == await tables(empty)
    await empty.run(f"drop table {made[-1]}, {made[-2]}")
    assert await writer.make_partitions() == made[-2:]
    assert await writer.make_partitions() == []
    await empty.run(f"drop table {made[0]}")
    assert await writer.make_partitions() == [], "the oldest was taken away"
    assert await writer.store([make_fix(at_s=NOW_S), make_fix(at_s=NOW_S + 86_400)]) == 2
    await note_all(writer)
    assert await empty.rows("select participant_id::text from tracking_participants") == [["P001"]]
    indexes = await empty.rows("""
        select count(*)::text, count(distinct indrelid)::text, bool_and(indisvalid)::text from pg_index
        join pg_inherits on inhrelid = indexrelid where inhparent in (
          select indexrelid from pg_index where indrelid = 'tracking_positions'::regclass)""")
    partitions = len(made) - 1
    assert indexes == [[f"{6 * partitions}", f"{partitions}", "true"]]


async def test_since_a_day_all_of_them(empty: Database) -> None:
    made: list[str] = []
    await make(empty.connection, made, Width.MONTH)
    there = await layout(empty.connection)
    assert there is not None
    more: list[str] = []
    await make(empty.connection, more, Width.MONTH, there.now_ms - 700 * DAY_MS)
    assert 21 <= len(more) <= 23
    assert sorted(made + more) == await tables(empty)


async def test_a_reader_and_a_writer_are_not_waited_for(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that lasts; a batch that is not committed yet; nor do they wait for one who waits for a lock."""
    monkeypatch.setattr(attaching, "WAIT_FOR_LOCK", "100ms")
    made: list[str] = []
    await make(empty.connection, made, Width.WEEK)
    await empty.run(f"drop table {made.pop()}")
    busy = await connect(empty.address, "test", 10)
    await busy.script("begin; select * from tracking_positions; delete from tracking_positions")
    maker = PostgresWriter(empty.address)
    assert len(await maker.make_partitions()) == 1
    await busy.script("rollback")
    await empty.run(f"drop table {made[-1]}")
    await busy.script("begin; lock table tracking_positions in share update exclusive mode")  # as VACUUM does
    with pytest.raises(StoreUnavailable, match="lock timeout"):
        await maker.make_partitions()
    monkeypatch.setattr(attaching, "WAIT_FOR_LOCK", "60s")
    waits = "select 1::text from pg_stat_activity where wait_event_type = 'Lock' and query like '%attach partition%'"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(maker.make_partitions)
        with trio.fail_after(60):
            while not await empty.rows(waits):
                await trio.sleep(0.01)
        assert await maker.store([make_fix(at_s=NOW_S)]) == 1
        assert await empty.rows(waits), "still"
        await busy.script("rollback")
    await maker.aclose()
    busy.close()
    assert len(await tables(empty)) == len(made) + 1


async def test_several_nodes_make_each_once(empty: Database) -> None:
    made: list[str] = []

    async def node() -> None:
        connection = await connect(empty.address, "test", 10)
        await make(connection, made, Width.WEEK)
        connection.close()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(node)
    assert sorted(made) == await tables(empty)


async def test_without_the_right_it_is_said_what_to_run(empty: Database, writer: PostgresWriter) -> None:
    made: list[str] = []
    await make(empty.connection, made, Width.MONTH)
    await empty.run(f"""drop table {made.pop()}; drop role if exists maker; create role maker login password 'short';
        grant select, insert on tracking_positions to maker""")
    ordinary = PostgresWriter(attrs.evolve(empty.address, user="maker", password=Secret("short")))
    with pytest.raises(StoreMisconfigured, match=r"permission denied.*migrate --partition month.*\(postgres\)") as told:
        await ordinary.make_partitions()
    await empty.run("grant create on schema public to maker")
    with pytest.raises(StoreMisconfigured, match=r"must be .* migrate --partition"):
        await ordinary.make_partitions()
    assert await tables(empty) == made, "no table is left that is no partition"
    (statements,) = re.findall(r"or: (.*)", str(told.value))
    await empty.run(statements)
    assert await ordinary.make_partitions() == []
    await ordinary.aclose()
    await empty.run("drop owned by maker; drop role maker")


async def test_whoever_makes_one_it_belongs_to_the_owner_of_the_table(empty: Database, writer: PostgresWriter) -> None:
    """The functions that look after the list of races are run as that one."""
    made: list[str] = []
    await make(empty.connection, made, Width.MONTH)
    await empty.run(f"""drop table {made[-1]}; drop role if exists member, "Owner";
        create role "Owner"; create role member login password 'short' in role "Owner";
        grant create on schema public to "Owner"; alter table tracking_positions owner to "Owner";
        alter function tracking_note_partitions(integer) owner to "Owner";
        grant all on all tables in schema public to "Owner" """)
    member = PostgresWriter(attrs.evolve(empty.address, user="member", password=Secret("short")))
    assert await member.make_partitions() == made[-1:]
    owner = f"select relowner::regrole::text from pg_class where oid = '{made[-1]}'::regclass"
    assert await empty.rows(owner) == [['"Owner"']]
    await note_all(member)
    await member.aclose()
    await empty.run('reassign owned by "Owner" to postgres; drop owned by "Owner", member; drop role member, "Owner"')


async def test_one_that_was_detached_stays_so(empty: Database, writer: PostgresWriter) -> None:
    """It is said, others are made, and where it got another name its month is made anew."""
    made: list[str] = []
    await make(empty.connection, made, Width.MONTH)
    await empty.run(f"alter table tracking_positions detach partition {made[1]}; drop table {made[2]}, {made[3]}")
    with pytest.raises(StoreMisconfigured, match=f"{made[1]} is there, and no partition of tracking_positions"):
        await writer.make_partitions()
    assert await tables(empty) == [made[0], *made[2:]]
    await empty.run(f"alter table {made[1]} rename to kept")
    assert await writer.make_partitions() == [made[1]]


async def test_partitions_of_others_are_left_to_them(database: Database) -> None:
    """By hash, with one for whatever comes, of other widths; or no table at all."""
    made: list[str] = []
    await make(database.connection, made, Width.MONTH)
    assert made == []
    await apply(database.connection)
    writer = PostgresWriter(database.address)
    assert await writer.make_partitions() == []
    await convert(database.connection)
    await database.run("create table rest partition of tracking_positions default")
    await make(database.connection, made)
    assert made == []
    await database.run("drop table rest")
    await make(database.connection, made, Width.MONTH)
    assert len(made) == 4
    there = await layout(database.connection)
    assert there is not None
    assert there.width == Width.MONTH
    await writer.aclose()


async def test_in_another_schema(database: Database) -> None:
    """Of the table, not the first on the search path."""
    await database.run('create schema "My"; create schema first')

    async def search(path: str) -> PostgresConnection:
        await database.run(f"alter database {database.address.database} set search_path = {path}")
        return await connect(database.address, "test", 10)

    connection = await search('"My"')
    await apply(connection)
    await convert(connection)
    connection.close()
    connection = await search('first, "My"')
    made: list[str] = []
    await make(connection, made, Width.MONTH)
    connection.close()
    assert await database.rows("""
        select relname::text, relnamespace::regnamespace::text from pg_class
        where relispartition and relkind = 'r' order by relname""") == [[name, '"My"'] for name in made]
