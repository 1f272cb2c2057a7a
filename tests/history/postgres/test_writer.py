"""The writer against a real PostgreSQL: what is stored, and that nothing hangs; refusals: test_errors.py."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreUnavailable
from actors.core.fix import STATUSES, Fix
from actors.core.identity import fix_id
from actors.core.rejection import Rejection
from actors.history.postgres import writer as postgres
from actors.history.postgres.libpq import connect
from actors.history.postgres.writer import PostgresWriter
from tests.kit.making import BASE_MS, make_fix
from tests.kit.stores import COUNT, PASSWORD, Database

pytestmark = pytest.mark.live


@pytest.fixture
async def other(database: Database) -> AsyncIterator[PostgresWriter]:
    """A second writer, connected."""
    other = PostgresWriter(database.address)
    await other.ping()
    yield other
    await other.aclose()


async def writers_pid(database: Database) -> int:
    ((pid,),) = await database.rows(
        "select pid::text from pg_stat_activity where application_name = 'race-tracking writer'"
    )
    return int(pid)


def exact(lat_e7: int, lon_e7: int, timestamp_ms: int, arrived_ms: int, status: int) -> Fix:
    key = fix_id("Ré-1", "Pé", timestamp_ms, lat_e7, lon_e7, status)
    return Fix("Ré-1", "Pé", lat_e7, lon_e7, timestamp_ms, status, arrived_ms, key)


@pytest.mark.parametrize(
    "fix",
    [
        exact(900_000_000, -1_800_000_000, BASE_MS + 1, BASE_MS + 999, 0),
        exact(-1, 1, 946_684_800_000, 946_684_799_999, 1),
        exact(-899_999_999, 1_799_999_999, 4_102_444_799_999, 4_102_444_800_001, 2),
        exact(0, 3, BASE_MS + 123, BASE_MS + 456, 3),
    ],
)
async def test_a_row_holds_the_fix_to_the_last_digit(database: Database, writer: PostgresWriter, fix: Fix) -> None:
    assert await writer.store([fix]) == 1
    (row,) = await database.rows(
        "select id::text, participant_id::text, race_id::text, (latitude * 10000000)::bigint::text,"
        " (longitude * 10000000)::bigint::text, scale(latitude)::text,"
        " (extract(epoch from client_timestamp) * 1000)::numeric(20,3)::text,"
        " (extract(epoch from server_received_at) * 1000)::numeric(20,3)::text, status::text from tracking_positions"
    )
    assert row == [
        str(uuid.UUID(bytes=fix.id)), "Pé", "Ré-1", str(fix.lat_e7), str(fix.lon_e7), "7",
        f"{fix.timestamp_ms}.000", f"{fix.arrived_ms}.000", STATUSES[fix.status],
    ]  # fmt: skip


async def test_what_is_there_already_or_twice_is_duplicate(database: Database, writer: PostgresWriter) -> None:
    first, second, third = (make_fix(at_s=second) for second in range(3))
    assert await writer.store([second, first, second]) == 2
    assert await writer.store([third, first, second]) == 1
    assert await writer.store([]) == 0
    assert await database.rows(COUNT) == [["3"]]


async def test_of_repetitions_in_one_call_the_first_arrival_counts(database: Database, writer: PostgresWriter) -> None:
    first = make_fix()
    again = msgspec.structs.replace(first, arrived_ms=first.arrived_ms + 1000)
    await writer.store([first, make_fix(at_s=1), again])
    arrived = "select (extract(epoch from server_received_at) * 1000)::bigint::text from tracking_positions"
    assert (await database.rows(f"{arrived} order by client_timestamp"))[0] == [str(first.arrived_ms)]


async def at_once(database: Database, in_hand: str, *writes: Callable[[], Awaitable[int]]) -> list[int]:
    """Calls of two writers that meet: both wait for somebody who has one of their rows `in_hand`, not committed, after
    they have written what comes before it; then that one gives it up."""
    stored: list[int] = []

    async def write(call: Callable[[], Awaitable[int]]) -> None:
        stored.append(await call())

    async with trio.open_nursery() as nursery:
        await database.run(f"begin; {in_hand}")
        for call in writes:
            nursery.start_soon(write, call)
        with trio.fail_after(9):
            while await database.rows("select count(distinct pid)::text from pg_locks where not granted") != [["2"]]:
                await trio.sleep(0.01)
        await database.run("rollback")
    return stored


async def test_two_writers_with_the_same_rows_do_not_deadlock(
    database: Database, writer: PostgresWriter, other: PostgresWriter
) -> None:
    fixes = sorted((make_fix(f"P{n}") for n in range(9)), key=lambda fix: fix.id)
    in_hand = (
        "insert into tracking_positions (id, participant_id, race_id, latitude, longitude, client_timestamp)"
        f" values ('{uuid.UUID(bytes=fixes[4].id)}', 'somebody', 'R', 1, 2, now())"
    )
    stored = await at_once(database, in_hand, lambda: writer.store(fixes), lambda: other.store(fixes[::-1]))
    assert sum(stored) == 9


async def test_rejections_are_kept_once_and_hold_what_postgres_refuses(
    database: Database, writer: PostgresWriter
) -> None:
    row = Rejection(b"\x01" * 16, BASE_MS, "a\0b/\udcff", b'{"race_id":"\0"}\xff', "bad_id", "not \0 this")
    other = attrs.evolve(row, id=b"\x02" * 16)
    assert await writer.reject([row, other, row]) == 2
    assert await writer.reject([row]) == 0
    assert await writer.reject([]) == 0
    rows = await database.rows(
        "select topic, encode(payload, 'escape'), code, detail from tracking_rejections order by id"
    )
    assert rows[0] == ["a\\x00b/\\udcff", '{"race_id":"\\000"}\\377', "bad_id", "not \\x00 this"]


async def test_two_writers_with_the_same_rejections_do_not_deadlock(
    database: Database, writer: PostgresWriter, other: PostgresWriter
) -> None:
    one = Rejection(b"\x01" * 16, BASE_MS, "t", b"{", "bad_json", "x")
    rows = [attrs.evolve(one, id=n.to_bytes(16, "big")) for n in range(9)]
    in_hand = f"insert into tracking_rejections values ('{uuid.UUID(bytes=rows[4].id)}', now(), 't', '', 'c', 'd')"
    stored = await at_once(database, in_hand, lambda: writer.reject(rows), lambda: other.reject(rows[::-1]))
    assert sum(stored) == 9


async def test_old_rejections_and_the_oldest_of_too_many_go(
    database: Database, writer: PostgresWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.run(
        "insert into tracking_rejections"
        " select gen_random_uuid(), now() - n * interval '1 day', '', '', 'bad_id', n::text"
        " from generate_series(0, 40) n"
    )

    monkeypatch.setattr(postgres, "TRIM_MANY", postgres.TRIM_MANY.replace(str(postgres.MOST_REJECTIONS), "20"))
    monkeypatch.setattr(postgres, "TRIM_ROWS", 3)
    monkeypatch.setattr(postgres, "TRIM_OLD", postgres.TRIM_OLD.replace("10000", "3"))
    await writer.trim_rejections()
    left = await database.rows("select detail from tracking_rejections order by detail::int")
    assert left == [[str(day)] for day in range(20)]


async def test_a_stopped_postgres_is_given_up_and_works_again(database: Database, writer: PostgresWriter) -> None:
    pid = await writers_pid(database)
    os.kill(pid, signal.SIGSTOP)
    try:
        with (
            trio.fail_after(30),
            pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"),
        ):
            await writer.store([make_fix()], deadline_s=0.3)
        # Another connection, while the old one still hangs.
        assert await writer.store([make_fix(at_s=1)]) == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await writer.store([make_fix()]) <= 1  # the stopped one may have committed after all
    assert await database.rows(COUNT) == [["2"]]


async def test_a_cancelled_call_leaves_a_writer_that_works(database: Database, writer: PostgresWriter) -> None:
    blocker = await connect(database.address, "test", 10)
    await blocker.script("begin; lock table tracking_positions")
    with trio.move_on_after(0.1) as scope:
        await writer.store([make_fix()])
    assert scope.cancelled_caught
    await blocker.script("rollback")
    blocker.close()
    assert await writer.store([make_fix()]) <= 1
    assert await database.rows(COUNT) == [["1"]]


async def test_a_connection_lost_while_it_was_idle_is_made_anew_and_nobody_notices(
    database: Database, writer: PostgresWriter
) -> None:
    for number in range(3):
        pid = await writers_pid(database)
        await database.run(f"select pg_terminate_backend({pid})")
        with trio.fail_after(30):
            while Path("/proc", str(pid)).exists():  # it leaves pg_stat_activity before its connection is closed
                await trio.sleep(0.01)
        assert await writer.store([make_fix(at_s=number)]) == 1


async def test_a_connection_lost_in_a_call_is_said_once_and_made_anew(
    database: Database, writer: PostgresWriter
) -> None:
    blocker = await connect(database.address, "test", 10)
    await blocker.script("begin; lock table tracking_positions")

    async def end() -> None:
        pid = await writers_pid(database)
        with trio.fail_after(30):
            while not await database.rows(f"select pid::text from pg_locks where pid = {pid} and not granted"):
                await trio.sleep(0.01)
        await database.run(f"select pg_terminate_backend({pid})")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        with pytest.raises(StoreUnavailable, match="terminating connection due to administrator command"):
            await writer.store([make_fix()])
    blocker.close()
    assert await writer.store([make_fix()]) == 1


async def test_commits_that_are_not_durable_are_warned_of(database: Database) -> None:
    await database.run(f"alter database {database.address.database} set synchronous_commit = off")
    writer = PostgresWriter(database.address)
    with capture_logs() as logs:
        await writer.ping()
    await writer.aclose()
    assert any("synchronous_commit" in entry["event"] for entry in logs)


async def test_storing_and_trimming_take_turns(writer: PostgresWriter) -> None:
    async with trio.open_nursery() as nursery:
        for second in range(20):
            nursery.start_soon(writer.store, [make_fix(at_s=second)])
            nursery.start_soon(writer.trim_rejections)


def test_neither_address_nor_writer_shows_the_password(postgres_server: PostgresAddress) -> None:
    assert postgres_server.password.reveal() == PASSWORD
    assert PASSWORD[:5] not in repr(PostgresWriter(postgres_server))
