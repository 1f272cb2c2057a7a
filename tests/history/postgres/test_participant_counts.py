"""How many participants a race has: kept beside tracking_participants, the same as counting them, whoever writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import attrs
import pytest
import trio

from actors.core.addresses import PostgresAddress
from actors.core.rejection import Rejection
from actors.history.postgres import migration
from actors.history.postgres.libpq import PostgresConnection, connect
from actors.history.postgres.reader import PostgresHistory
from actors.history.postgres.writer import PostgresWriter
from actors.history.queries import HistoryQuery, RaceSummary
from actors.settings.load import Secret
from tests.kit.making import BASE_MS, make_fix
from tests.kit.stores import Database

pytestmark = pytest.mark.live

SCHEMA = migration.SCHEMA.read_text()
OLD = SCHEMA[: SCHEMA.index("-- object: table tracking_participant_counts")]
BEFORE = OLD + "commit;"
"""The schema before there were counts."""
ADDED = [str(item) for item in migration.parse(SCHEMA[len(OLD) :])]

HURRY = "set statement_timeout = '5s'; set lock_timeout = '5s'"
WAITS = (
    "select count(*)::text from pg_locks l join pg_database d on d.oid = database where datname = '{}' and not granted"
)


def row(race: str, *participants: str) -> str:
    """An insert of a row each."""
    return rows([(race, participant) for participant in participants])


def rows(who: Sequence[tuple[str, str]]) -> str:
    """One statement, a row for each race and participant."""
    values = ", ".join(f"('{race}', '{participant}', 1, 2, now())" for race, participant in who)
    return (
        "insert into tracking_positions (race_id, participant_id, latitude, longitude, client_timestamp)"
        f" values {values};"
    )


async def counts(database: Database) -> dict[str, int]:
    """As they are kept, and they are the same as counted."""
    kept, counted = [
        {race: int(number) for race, number in await database.rows(sql)}
        for sql in (
            "select race_id::text, sum(participants)::text from tracking_participant_counts"
            " group by 1 having sum(participants) <> 0",
            "select race_id::text, count(*)::text from tracking_participants group by 1",
        )
    ]
    assert kept == counted
    return kept


async def parts(database: Database, race: str) -> int:
    (found,) = await database.rows(f"select count(*)::text from tracking_participant_counts where race_id = '{race}'")
    return int(found[0])


@pytest.fixture
async def others(database: Database) -> AsyncIterator[list[PostgresConnection]]:
    """Two other writers."""
    await migration.apply(database.connection)
    found = [await connect(database.address, "test", 10) for _ in range(2)]
    for connection in found:
        await connection.script(HURRY)
    yield found
    for connection in found:
        connection.close()


async def somebody_waits(database: Database) -> None:
    """Until a session waits for a lock."""
    with trio.fail_after(60):
        while await database.rows(WAITS.format(database.address.database)) == [["0"]]:
            await trio.sleep(0.01)


async def test_they_follow_every_kind_of_change_of_positions(database: Database) -> None:
    await migration.apply(database.connection)
    await database.run(row("R1", "P1", "P1", "P2") + row("R2", "P1"))
    await database.run(
        "insert into tracking_positions (race_id, participant_id, latitude, longitude, client_timestamp)"
        " select 'R' || n % 3, 'P' || n % 4, 1, 2, now() from generate_series(0, 99) n"
    )
    assert await counts(database) == {"R0": 4, "R1": 4, "R2": 4}
    await database.run("update tracking_positions set race_id = 'R1' where participant_id = 'P3'")
    assert await counts(database) == {"R0": 3, "R1": 4, "R2": 3}
    await database.run("update tracking_positions set participant_id = 'P5' where participant_id in ('P1', 'P2')")
    assert await counts(database) == {"R0": 2, "R1": 3, "R2": 2}
    await database.run("delete from tracking_positions where id in (select id from tracking_positions limit 1)")
    assert await counts(database) == {"R0": 2, "R1": 3, "R2": 2}
    await database.run("delete from tracking_positions where race_id = 'R0' or participant_id = 'P0'")
    assert await counts(database) == {"R1": 2, "R2": 1}
    await database.run("begin;" + row("R1", "P8") + "rollback")
    assert await counts(database) == {"R1": 2, "R2": 1}
    assert await parts(database, "R1") == 1
    await database.run("truncate tracking_positions")
    assert await counts(database) == {}
    await database.run(row("R2", "P1", "P2"))
    assert await counts(database) == {"R2": 2}


async def test_they_follow_changes_of_the_participants_themselves(database: Database) -> None:
    await migration.apply(database.connection)
    await database.run("insert into tracking_participants values ('R1', 'P1'), ('R1', 'P2'), ('R2', 'P1')")
    assert await counts(database) == {"R1": 2, "R2": 1}
    await database.run("update tracking_participants set race_id = 'R2' where participant_id = 'P2'")
    assert await counts(database) == {"R1": 1, "R2": 2}
    await database.run("delete from tracking_participants where race_id = 'R1'")
    assert await counts(database) == {"R2": 2}
    await database.run("truncate tracking_participants")
    assert await counts(database) == {}
    await database.run(
        "grant insert on tracking_participants to pg_monitor; set role pg_monitor; set search_path = '';"
        " insert into public.tracking_participants values ('R4', 'P1'); reset role; reset search_path"
    )
    assert await counts(database) == {"R4": 1}


async def test_nobody_waits_for_who_has_not_committed(database: Database, others: list[PostgresConnection]) -> None:
    """An import that takes an hour in one transaction does not keep new participants out of the race."""
    await database.run(row("R1", "P1"))
    await others[0].script("begin;" + row("R1", "P2", "P3"))
    await others[1].script("begin;" + row("R1", "P4"))
    await database.run(f"{HURRY};{row('R1', 'P5')}")
    assert await counts(database) == {"R1": 2}
    await others[1].script("rollback")
    await others[0].script("delete from tracking_positions where participant_id = 'P3'; commit")
    assert await counts(database) == {"R1": 3}
    assert await parts(database, "R1") == 2
    await database.run("delete from tracking_positions where participant_id in ('P1', 'P2')")
    assert await counts(database) == {"R1": 1}


async def test_races_in_opposite_orders_are_no_deadlock(database: Database, others: list[PostgresConnection]) -> None:
    await database.run(row("R1", "P1") + row("R2", "P1"))
    one, other = others
    await one.script("begin;" + row("R1", "P2"))
    await other.script("begin;" + row("R2", "P3"))
    await one.script(row("R2", "P2") + "commit")
    await other.script(row("R1", "P3") + "commit")
    assert await counts(database) == {"R1": 3, "R2": 3}


async def test_the_same_new_participants_in_opposite_orders(
    database: Database, others: list[PostgresConnection]
) -> None:
    """Each is counted once, by whoever was first."""

    async def write(connection: PostgresConnection, order: int) -> None:
        for start in range(0, 2000, 100):
            batch = [(f"R{number % 2}", f"P{number:04}") for number in range(start, start + 100)]
            await connection.script(rows(batch[::order]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, others[0], 1)
        nursery.start_soon(write, others[1], -1)
    assert await counts(database) == {"R0": 1000, "R1": 1000}
    assert await database.rows("select count(*)::text from tracking_positions") == [["4000"]]


async def test_a_database_from_before_gets_them_with_its_rows(database: Database) -> None:
    await database.run(BEFORE + row("R1", "P1", "P2", "P1") + row("R2", "P1"))
    assert await migration.apply(database.connection) == ADDED
    assert await counts(database) == {"R1": 2, "R2": 1}
    await database.run(row("R2", "P2"))
    assert await counts(database) == {"R1": 2, "R2": 2}
    assert await migration.apply(database.connection) == []


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
async def test_what_is_committed_during_the_migration_is_counted(database: Database, isolation: str) -> None:
    """Also where a DBA has made another isolation the default."""
    await database.run(BEFORE + row("R1", "P1"))
    await database.run(f"alter database {database.address.database} set default_transaction_isolation = '{isolation}'")
    before, during, daemon = [await connect(database.address, "test", 10) for _ in range(3)]
    await before.script("begin;" + row("R1", "P2", "P5") + "delete from tracking_positions where participant_id = 'P1'")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(migration.apply, daemon)
        await somebody_waits(database)
        nursery.start_soon(during.script, row("R1", "P3") + row("R2", "P4"))
        await before.script("commit")
    assert await counts(database) == {"R1": 3, "R2": 1}
    for connection in (before, during, daemon):
        connection.close()


async def test_writers_at_work_all_the_time_do_not_disturb_the_migration(database: Database) -> None:
    await database.run(BEFORE + row("R0", "P0"))
    done = trio.Event()
    written: set[int] = set()

    async def write(number: int) -> None:
        connection = await connect(database.address, "test", 10)
        turn = 0
        while turn < 20 or not done.is_set():
            turn += 1
            await connection.script(row(f"R{turn % 3}", f"P{turn}", f"P{turn}-{number}"))
            await connection.script(f"delete from tracking_positions where participant_id = 'P{turn - 5}-{number}'")
            written.add(number)
        connection.close()

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(write, number)
        while len(written) < 3:
            await trio.sleep(0.001)
        assert await migration.apply(database.connection) == ADDED
        done.set()
    assert sum((await counts(database)).values()) > 20


async def test_applied_again_by_hand_they_are_counted_again(database: Database) -> None:
    await database.run(SCHEMA + row("R1", "P1", "P2"))
    await database.run("update tracking_participant_counts set participants = 7")
    await database.run(SCHEMA)
    assert await counts(database) == {"R1": 2}


async def test_counts_that_outlived_their_tables_are_counted_again(database: Database) -> None:
    await migration.apply(database.connection)
    await database.run(row("R1", "P1", "P2") + "drop table tracking_positions, tracking_participants")
    counting = [name for name in ADDED[2:] if "count" in name]
    assert [name for name in await migration.apply(database.connection) if "count" in name] == counting
    await database.run(row("R2", "P1"))
    assert await counts(database) == {"R2": 1}


async def test_a_role_with_the_rights_of_the_readme_is_enough(database: Database) -> None:
    """It neither owns the tables nor may make any."""
    await migration.apply(database.connection)
    await database.run("""
        create role tracker login password 'short';
        grant select, insert on tracking_positions to tracker;
        grant select, insert, delete on tracking_rejections to tracker;
        grant select on tracking_participant_counts to tracker""")
    address: PostgresAddress = attrs.evolve(database.address, user="tracker", password=Secret("short"))
    writer, history = PostgresWriter(address), PostgresHistory(address)
    assert await writer.store([make_fix("P1"), make_fix("P2")]) == 2
    assert await writer.reject([Rejection(bytes(16), BASE_MS, "t", b"{}", "bad_id", "d")]) == 1
    await writer.trim_rejections()
    assert await history.races() == [RaceSummary("R1", 2, BASE_MS)]
    assert len(await history.newest("R1", 0)) == len((await history.history(HistoryQuery("R1"))).fixes) == 2
    assert len(await history.rejections()) == 0
    await writer.aclose()
    await history.aclose()
    await database.run("drop owned by tracker; drop role tracker")
