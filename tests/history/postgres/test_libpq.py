"""One connection to PostgreSQL: what the tests of writer, reader and migration do not see of it."""

from __future__ import annotations

import os
import signal
from contextlib import aclosing

import pytest
import trio

from actors.core.addresses import PostgresAddress
from actors.core.errors import RowRefused, StoreUnavailable
from actors.history.postgres import binary, libpq
from tests.kit.names import Names
from tests.kit.stores import Database

pytestmark = pytest.mark.live


@pytest.mark.parametrize("stopped_at", ["begin", "commit"])
async def test_a_transaction_that_hangs_is_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    """Around what the block does there are deadlines of its own; a migration and an export have no other for these."""
    connection = await libpq.connect(database.address, "test", 10)
    pid = connection.backend_pid

    def stop(before: str) -> None:
        if before == stopped_at:
            monkeypatch.setattr(libpq, "FRAME_S", 0.3)
            os.kill(pid, signal.SIGSTOP)

    async def transact() -> None:
        stop("begin")
        async with connection.transaction():
            stop("commit")

    try:
        with trio.fail_after(30), pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"):
            await transact()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not connection.usable


MANY_ROWS = "select generate_series(1, $1::int8), repeat('x', 1000)"  # 1 kB each, made while they are taken


async def test_rows_come_in_parts_while_the_server_makes_them(database: Database) -> None:
    connection = await libpq.connect(database.address, "test", 10)
    await connection.begin()
    parts = [
        [binary.read_int8(result.get_value(row, 0) or b"") for row in range(result.ntuples)]
        async for result in connection.rows(MANY_ROWS, [binary.int8(2500)], [binary.INT8], 1000)
    ]
    assert [len(part) for part in parts] == [1000, 1000, 500]
    assert [number for part in parts for number in part] == [*range(1, 2501)]
    assert [result async for result in connection.rows(MANY_ROWS, [binary.int8(0)], [binary.INT8], 1000)] == []
    await connection.commit()
    assert connection.usable
    connection.close()


async def test_rows_that_end_early_are_no_whole(database: Database) -> None:
    """The server goes, or an error comes behind rows that are good."""
    connection = await libpq.connect(database.address, "test", 10)
    await connection.begin()
    rows = connection.rows(MANY_ROWS, [binary.int8(1_000_000)], [binary.INT8], 10)
    assert (await anext(rows)).ntuples == 10
    await database.run(f"select pg_terminate_backend({connection.backend_pid}, 10000)")
    with pytest.raises(StoreUnavailable):
        [result async for result in rows]
    assert not connection.usable
    connection = await libpq.connect(database.address, "test", 10)
    await connection.begin()
    rows = connection.rows("select 1 / (20000 - generate_series(1, 20000))", (), (), 10)
    assert (await anext(rows)).ntuples == 10
    with pytest.raises(RowRefused, match="division by zero"):
        [result async for result in rows]
    assert not connection.usable


async def test_rows_left_early_close_the_connection_and_the_server_stops(database: Database) -> None:
    connection = await libpq.connect(database.address, "left early", 10)
    await connection.begin()
    async with aclosing(connection.rows(MANY_ROWS, [binary.int8(10**9)], [binary.INT8], 10)) as rows:
        assert (await anext(rows)).ntuples == 10
    assert not connection.usable
    await database.run("""
        set statement_timeout = '10s';
        do $$ begin while exists (select from pg_stat_activity where application_name = 'left early') loop
          perform pg_sleep(0.01), pg_stat_clear_snapshot();
        end loop; end $$""")


async def test_rows_that_do_not_come_are_given_up(database: Database) -> None:
    connection = await libpq.connect(database.address, "test", 10)
    await connection.begin()
    rows = connection.rows("select pg_sleep(60)", (), (), 10)
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"), libpq.within(0.2):
        await anext(rows)
    assert not connection.usable


async def test_a_name_server_that_does_not_answer_is_given_up() -> None:
    trio.socket.set_custom_hostname_resolver(Names([]))
    with trio.fail_after(30), pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
        await libpq.connect(PostgresAddress("postgres.example"), "test", 0.2)
