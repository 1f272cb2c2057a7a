"""All rows of an export: in order, as they were when it began, whatever the groups and whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from actors.core.fix import Fix
from actors.history.postgres import libpq, reader_sql, stream
from actors.history.postgres.params import Params
from actors.history.postgres.table_check import texts
from actors.history.postgres.writer import PostgresWriter
from actors.history.queries import HistoryQuery
from tests.history.postgres.test_partitions import TABLE, hours
from tests.kit.making import BASE_MS, make_fix
from tests.kit.stores import Database

pytestmark = pytest.mark.live

# As a language orders them, and by their bytes, they are not the same.
NAMES = ["P1", "p1", "Á", "a", "B", "b", "_", "Zoë", "zoe", "10", "9"]
FIXES = [make_fix(name, n // 2, lat=n % 3) for n in range(40) for name in NAMES[: 3 + n % 9]]


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[libpq.PostgresConnection]:
    made = await libpq.connect(database.address, "test", 10)
    yield made
    made.close()


async def read(connection: libpq.PostgresConnection, query: HistoryQuery, by_participant: bool) -> list[Fix]:
    await connection.begin(*reader_sql.EXPORT)
    chunks = stream.everything(connection, query, by_participant, False)
    return [fix async for chunk in chunks for fix in chunk]


async def ordered(database: Database, fixes: Sequence[Fix]) -> list[Fix]:
    """By participant, as this database orders text."""
    names = await database.rows("select participant_id::text from tracking_participants order by participant_id")
    place = {name: number for number, (name,) in enumerate(names)}
    return sorted(fixes, key=lambda fix: (place[fix.participant_id], fix.timestamp_ms, fix.id))


@pytest.mark.parametrize("group_rows", [1, 30, 10**6])
@pytest.mark.parametrize("collation", ["C", "und-x-icu"])
async def test_participants_come_one_after_the_other_as_the_database_orders_them(
    database: Database,
    connection: libpq.PostgresConnection,
    writer: PostgresWriter,
    monkeypatch: pytest.MonkeyPatch,
    group_rows: int,
    collation: str,
) -> None:
    monkeypatch.setattr(stream, "GROUP_ROWS", group_rows)
    monkeypatch.setattr(stream, "GROUPS", 1000)
    if not await database.rows(f"select collname::text from pg_collation where collname = '{collation}'"):
        pytest.skip("this PostgreSQL has no ICU")
    for table in ("tracking_positions", "tracking_participants"):
        await database.run(f'alter table {table} alter participant_id type varchar(50) collate "{collation}"')
    await writer.store([*FIXES, make_fix("P5", race_id="R2")])
    expected = await ordered(database, FIXES)
    assert (expected != sorted(expected, key=lambda fix: fix.participant_id)) == (collation != "C")
    assert await read(connection, HistoryQuery("R1"), True) == expected
    start, end = BASE_MS + 3000, BASE_MS + 9000
    middle = [fix for fix in expected if start <= fix.timestamp_ms < end]
    assert await read(connection, HistoryQuery("R1", None, start, end), True) == middle
    of_one = [fix for fix in middle if fix.participant_id == "Á"]
    assert await read(connection, HistoryQuery("R1", "Á", start, end), True) == of_one
    assert len(of_one) > 3
    assert await read(connection, HistoryQuery("R3"), True) == []
    assert connection.usable


async def test_the_oldest_comes_first(
    database: Database, connection: libpq.PostgresConnection, writer: PostgresWriter
) -> None:
    await writer.store(FIXES)
    expected = sorted(FIXES, key=lambda fix: (fix.timestamp_ms, fix.id))
    assert await read(connection, HistoryQuery("R1"), False) == expected
    of_one = [fix for fix in expected if fix.participant_id == "Á"]
    assert await read(connection, HistoryQuery("R1", "Á"), False) == of_one


async def test_partitions_are_read_as_one_table(database: Database, connection: libpq.PostgresConnection) -> None:
    await database.run(f"{TABLE} range (id)")
    for hour in range(3):
        await database.run(f"create table hour_{hour} partition of tracking_positions {hours(hour, hour + 1)}")
    writer = PostgresWriter(database.address)
    fixes = [make_fix(f"P{n % 4}", n * 100) for n in range(100)]
    await writer.store(fixes)
    assert await read(connection, HistoryQuery("R1"), False) == fixes
    assert await read(connection, HistoryQuery("R1"), True) == await ordered(database, fixes)
    await writer.aclose()


@pytest.mark.parametrize("by_participant", [False, True])
async def test_what_is_written_meanwhile_does_not_count(
    database: Database,
    connection: libpq.PostgresConnection,
    writer: PostgresWriter,
    monkeypatch: pytest.MonkeyPatch,
    by_participant: bool,
) -> None:
    monkeypatch.setattr(stream, "GROUP_ROWS", 1)
    monkeypatch.setattr(stream, "GROUPS", 1000)
    await writer.store(FIXES)
    await connection.begin(*reader_sql.EXPORT)
    async with aclosing(stream.everything(connection, HistoryQuery("R1"), by_participant, False)) as chunks:
        found = await anext(chunks)
        await writer.store([make_fix(name, 1000) for name in NAMES])
        await database.run("delete from tracking_positions where participant_id = 'Zoë'")
        async for chunk in chunks:
            found += chunk
    assert sorted(fix.id for fix in found) == sorted(fix.id for fix in FIXES)


async def test_the_server_has_no_deadline_for_who_reads_slowly(connection: libpq.PostgresConnection) -> None:
    await connection.begin(*reader_sql.EXPORT)
    settings = ("statement_timeout", "lock_timeout", "transaction_read_only", "max_parallel_workers_per_gather")
    ((*found,),) = await texts(connection, f"select {', '.join(f'current_setting({name!r})' for name in settings)}")
    assert found == ["0", "9500ms", "on", "0"]


def test_a_group_is_as_many_participants_as_are_sorted_well() -> None:
    """And all are in about 20 groups, because each of them may read the whole table."""
    of_200 = [stream.group_size(200, *seen) for seen in ((0, 0), (10, 0), (10, 10), (10, 400_000), (10, 10**7))]
    assert of_200 == [10, 5000, 5000, 50, 10]
    assert [stream.group_size(many, 0, 0) for many in (1, 20, 21, 10**6)] == [1, 1, 2, 50_000]


async def plan(database: Database, settings: Sequence[str], text: str, params: Params) -> str:
    async with database.connection.transaction(*settings):
        result = await database.connection.query(f"explain {text}", params.values, params.types)
    return "\n".join((result.get_value(row, 0) or b"").decode() for row in range(result.ntuples))


@pytest.mark.parametrize("analyzed", [True, False])
async def test_nothing_is_sorted_but_a_group(database: Database, writer: PostgresWriter, analyzed: bool) -> None:
    """Whatever the planner knows."""
    await database.run(
        "alter table tracking_positions set (autovacuum_enabled = off);"
        "insert into tracking_positions (race_id, participant_id, latitude, longitude, client_timestamp)"
        " select 'R' || n % 3, 'P' || n % 60, 1, 2, '2025-07-01'::timestamptz + n * interval '10 ms'"
        " from generate_series(1, 60000) n" + ("; analyze" if analyzed else "")
    )
    for query in (HistoryQuery("R1"), HistoryQuery("R1", "P7"), HistoryQuery("R1", to_ms=1_751_328_900_000)):
        params = Params()
        text = await plan(database, [reader_sql.ALONG_AN_INDEX], reader_sql.by_time(params, query), params)
        assert "Index Scan" in text
        assert re.findall(r"(\S*) ?Sort  \(", text) == ["Incremental"]
    params = Params()
    text = await plan(database, (), reader_sql.participants(params, "R1"), params)
    assert text.count("idx_tracking_race_participant_timestamp") == 2
    assert "Seq Scan" not in text
    params = Params()
    sql = reader_sql.group(params, HistoryQuery("R1"), [f"P{n}" for n in range(1, 20)])
    text = await plan(database, [reader_sql.READ_AND_SORTED], sql, params)
    assert "Hash Join" in text
    assert "Sort Key: listed.place, tracking_positions.client_timestamp, tracking_positions.id" in text
    assert "Bitmap Heap Scan" in text or "Seq Scan" in text
