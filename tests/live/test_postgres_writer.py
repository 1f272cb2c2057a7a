"""The writer against a real PostgreSQL: what is stored, what is refused, and that nothing hangs."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator

import attrs
import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from actors.core.fix import STATUSES, Fix, Rejection
from actors.core.identity import fix_id
from actors.drivers import postgres
from actors.drivers.addresses import PostgresAddress
from actors.drivers.libpq import connect
from actors.drivers.postgres import PostgresWriter, Stored
from actors.errors import RowRefused, StoreMisconfigured, StoreUnavailable
from tests.live.stores import PASSWORD, Database
from tests.making import BASE_MS, make_fix

pytestmark = pytest.mark.live

COUNT = "select count(*)::text from tracking_positions"


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[PostgresWriter]:
    writer = PostgresWriter(database.address)
    await writer.connect()
    yield writer
    await writer.aclose()


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
    assert await writer.store([fix]) == Stored(committed=1, duplicate=0)
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
    assert await writer.store([second, first, second]) == Stored(committed=2, duplicate=1)
    assert await writer.store([third, first, second]) == Stored(committed=1, duplicate=2)
    assert await writer.store([]) == Stored(0, 0)
    assert await database.rows(COUNT) == [["3"]]


async def test_of_repetitions_in_one_call_the_first_arrival_counts(database: Database, writer: PostgresWriter) -> None:
    first = make_fix()
    again = msgspec.structs.replace(first, arrived_ms=first.arrived_ms + 1000)
    await writer.store([first, make_fix(at_s=1), again])
    arrived = "select (extract(epoch from server_received_at) * 1000)::bigint::text from tracking_positions"
    assert (await database.rows(f"{arrived} order by client_timestamp"))[0] == [str(first.arrived_ms)]


async def test_two_writers_with_the_same_rows_do_not_deadlock(database: Database, writer: PostgresWriter) -> None:
    fixes = [make_fix(f"P{n}", n / 7) for n in range(2000)]
    other = PostgresWriter(database.address)
    stored: list[Stored] = []

    async def store(by: PostgresWriter, rows: list[Fix]) -> None:
        stored.append(await by.store(rows))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store, writer, fixes)
        nursery.start_soon(store, other, fixes[::-1])
    await other.aclose()
    assert sum(one.committed for one in stored) == 2000


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


async def test_two_writers_with_the_same_rejections_do_not_deadlock(database: Database, writer: PostgresWriter) -> None:
    one = Rejection(b"\x01" * 16, BASE_MS, "t", b"{", "bad_json", "x")
    rows = [attrs.evolve(one, id=n.to_bytes(16, "big")) for n in range(5000)]
    other = PostgresWriter(database.address)
    stored: list[int] = []

    async def reject(by: PostgresWriter, these: list[Rejection]) -> None:
        stored.append(await by.reject(these))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reject, writer, rows)
        nursery.start_soon(reject, other, rows[::-1])
    await other.aclose()
    assert sum(stored) == 5000


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
        assert (await writer.store([make_fix(at_s=1)])).committed == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    stored = await writer.store([make_fix()])
    assert stored.committed + stored.duplicate == 1  # the stopped one may have committed after all
    assert await database.rows(COUNT) == [["2"]]


async def test_a_cancelled_call_leaves_a_writer_that_works(database: Database, writer: PostgresWriter) -> None:
    blocker = await connect(database.address, "test", 10)
    await blocker.script("begin; lock table tracking_positions")
    with trio.move_on_after(0.1) as scope:
        await writer.store([make_fix()])
    assert scope.cancelled_caught
    await blocker.script("rollback")
    blocker.close()
    assert sum(attrs.astuple(await writer.store([make_fix()]))) == 1
    assert await database.rows(COUNT) == [["1"]]


async def test_a_lost_connection_is_said_once_and_made_anew(database: Database, writer: PostgresWriter) -> None:
    await database.run(f"select pg_terminate_backend({await writers_pid(database)})")
    with pytest.raises(StoreUnavailable):
        await writer.store([make_fix()])
    assert (await writer.store([make_fix()])).committed == 1


async def test_a_row_that_postgres_refuses_is_the_rows_fault(database: Database, writer: PostgresWriter) -> None:
    too_long = msgspec.structs.replace(make_fix(at_s=1), participant_id="P" * 51)
    with pytest.raises(RowRefused, match="value too long"):
        await writer.store([make_fix(), too_long])
    assert await database.rows(COUNT) == [["0"]]
    assert (await writer.store([make_fix()])).committed == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("add check (client_timestamp < '2001-01-01') not valid", RowRefused),
        ("add reviewed_by text", StoreMisconfigured),
    ],
)
async def test_a_fault_of_the_set_up_refuses_rows_that_are_there_already(
    database: Database, writer: PostgresWriter, fault: str, kind: type[Exception]
) -> None:
    """So rows sent again that are taken as duplicates show that the set-up is right (Committer.accepted)."""
    fix = make_fix()
    await writer.store([fix])
    await database.run(f"alter table tracking_positions {fault}")
    if "reviewed_by" in fault:
        await database.run("update tracking_positions set reviewed_by = 'me'")
        await database.run("alter table tracking_positions alter reviewed_by set not null")
    with pytest.raises(kind):
        await writer.store([fix])


async def test_a_read_only_database_is_unavailable(database: Database, writer: PostgresWriter) -> None:
    await database.run(f"alter database {database.address.database} set default_transaction_read_only = on")
    await writer.aclose()
    with pytest.raises(StoreUnavailable, match="read-only"):
        await writer.store([make_fix()])
    with pytest.raises(StoreUnavailable, match="read-only"):
        await writer.ping()  # which would tell that it is back
    await database.run("set default_transaction_read_only = off")
    await database.run(f"alter database {database.address.database} reset default_transaction_read_only")
    assert (await writer.store([make_fix()])).committed == 1


async def test_a_changed_table_is_a_fault_of_the_set_up_until_it_is_mended(
    database: Database, writer: PostgresWriter
) -> None:
    await database.run("alter table tracking_positions rename column race_id to race")
    for _ in range(2):
        with pytest.raises(StoreMisconfigured, match="race_id"):
            await writer.store([make_fix()])
    await database.run("alter table tracking_positions rename column race to race_id")
    assert (await writer.store([make_fix()])).committed == 1


async def test_a_table_that_would_round_in_silence_is_seen_at_every_connect(
    database: Database, writer: PostgresWriter
) -> None:
    await writer.store([make_fix()])
    await database.run("alter table tracking_positions alter latitude type numeric(10, 2)")
    await writer.aclose()
    with pytest.raises(StoreMisconfigured, match=r"column latitude is numeric\(10,2\)"):
        await writer.store([make_fix(at_s=1)])


async def test_a_row_without_a_partition_is_a_fault_of_the_set_up(database: Database, writer: PostgresWriter) -> None:
    await database.run("alter table tracking_positions rename to template")
    await database.run(
        "create table tracking_positions (like template including defaults, primary key (id)) partition by hash (id)"
    )
    await database.run("drop table template")
    await writer.aclose()
    with pytest.raises(StoreMisconfigured, match="no partition of relation"):
        await writer.store([make_fix()])


async def test_a_dropped_table_is_made_again(database: Database, writer: PostgresWriter) -> None:
    await database.run("drop table tracking_positions")
    with pytest.raises(StoreMisconfigured, match="does not exist"):
        await writer.store([make_fix()])
    assert (await writer.store([make_fix()])).committed == 1


async def test_without_migration_a_missing_table_stays_missing(database: Database) -> None:
    writer = PostgresWriter(database.address, migrate=False)
    with pytest.raises(StoreMisconfigured, match="column id is missing"):
        await writer.connect()


async def test_commits_that_are_not_durable_are_warned_of(database: Database) -> None:
    await database.run(f"alter database {database.address.database} set synchronous_commit = off")
    writer = PostgresWriter(database.address)
    with capture_logs() as logs:
        await writer.connect()
    await writer.aclose()
    assert any("synchronous_commit" in entry["event"] for entry in logs)


async def test_storing_and_trimming_take_turns(writer: PostgresWriter) -> None:
    async with trio.open_nursery() as nursery:
        for second in range(20):
            nursery.start_soon(writer.store, [make_fix(at_s=second)])
            nursery.start_soon(writer.trim_rejections)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("57014", StoreUnavailable), ("53100", StoreUnavailable), ("40P01", StoreUnavailable),
        ("25006", StoreUnavailable), ("55P03", StoreUnavailable), ("58030", StoreUnavailable),
        ("08006", StoreUnavailable), ("XX001", StoreUnavailable),
        ("42501", StoreMisconfigured), ("28000", StoreMisconfigured), ("54000", StoreMisconfigured),
        ("22003", RowRefused), ("23514", RowRefused), ("44000", RowRefused), ("P0001", RowRefused),
    ],
)  # fmt: skip
async def test_each_class_of_error_means_what_it_says(
    database: Database, writer: PostgresWriter, state: str, kind: type[Exception]
) -> None:
    await database.run(
        "create function refuse() returns trigger language plpgsql as"
        f" $$ begin raise exception 'no' using errcode = '{state}'; end $$;"
        "create trigger refuse before insert on tracking_positions for each row execute function refuse()"
    )
    with pytest.raises(kind, match=f"no .SQLSTATE {state}") as caught:
        await writer.store([make_fix()])
    assert type(caught.value) is kind
    await database.run("drop trigger refuse on tracking_positions")
    assert (await writer.store([make_fix()])).committed == 1


def test_neither_address_nor_writer_shows_the_password(postgres_server: PostgresAddress) -> None:
    assert postgres_server.password.reveal() == PASSWORD
    assert PASSWORD[:5] not in repr(PostgresWriter(postgres_server))
