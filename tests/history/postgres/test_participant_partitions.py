"""Participants of partitions that come and go behind the triggers' back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest

from actors.history.postgres import migration
from actors.history.postgres import writer as postgres
from actors.history.postgres.reader import PostgresHistory
from actors.history.postgres.writer import PostgresWriter
from actors.settings.load import Secret
from tests.history.postgres.test_partitions import TABLE, fixes, hours
from tests.kit.making import make_fix
from tests.kit.stores import Database

pytestmark = pytest.mark.live

KNOWN = "select race_id::text, participant_id::text from tracking_participants order by 1, 2"


@pytest.fixture
async def partitioned(database: Database) -> AsyncIterator[PostgresWriter]:
    """A partition of the first hour, with P0 to P6, and one of the second, with P5 to P9; each in two races."""
    await database.run(f"{TABLE} range (id)")
    for hour in range(2):
        await database.run(f"create table hour_{hour} partition of tracking_positions {hours(hour, hour + 1)}")
    writer = PostgresWriter(database.address)
    for hour, numbers in enumerate((range(7), range(5, 10))):
        for race in ("R1", "R2"):
            await writer.store([make_fix(f"P{number}", 3600 * hour + number, race_id=race) for number in numbers])
    yield writer
    await writer.aclose()


async def note_all(writer: PostgresWriter) -> int:
    """How many parts it took."""
    parts = 1
    while await writer.note_partitions():
        parts += 1
    return parts


async def known(database: Database) -> list[str]:
    """Participants, the same in both races and as many as are counted."""
    rows = await database.rows(KNOWN)
    first, second = ([who for race, who in rows if race == name] for name in ("R1", "R2"))
    assert first == second
    history = PostgresHistory(database.address)
    assert {race.participants for race in await history.races()} <= {len(first)}
    await history.aclose()
    return first


def some(first: int, last: int) -> list[str]:
    return [f"P{number}" for number in range(first, last)]


@pytest.mark.parametrize("most", [1, 3, 5, 14, 1000])
async def test_they_are_those_of_the_partitions_that_there_are(
    database: Database, partitioned: PostgresWriter, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little is done at once."""
    monkeypatch.setattr(postgres, "NOTE_PARTITIONS", postgres.NOTE_PARTITIONS.replace("1000", str(most)))
    await note_all(partitioned)
    assert await known(database) == some(0, 10)
    assert await note_all(partitioned) == 1, "nothing to do"
    await database.run("alter table tracking_positions detach partition hour_0")
    assert await note_all(partitioned) >= 20 // most
    assert await known(database) == some(5, 10)
    await database.run(f"alter table tracking_positions attach partition hour_0 {hours(0, 1)}")
    await note_all(partitioned)
    assert await known(database) == some(0, 10)
    await database.run("truncate hour_1")
    await note_all(partitioned)
    assert await known(database) == some(0, 7)
    await database.run("drop table hour_0")
    await note_all(partitioned)
    assert await known(database) == []
    assert await note_all(partitioned) == 1


async def test_what_went_before_anybody_looked(database: Database, partitioned: PostgresWriter) -> None:
    """The daemon was away, or of an earlier version."""
    await database.run("drop table hour_0; drop table tracking_partitions")
    await migration.apply(database.connection)
    await note_all(partitioned)
    assert await known(database) == some(5, 10)


async def test_one_that_goes_while_others_are_looked_at(
    database: Database, partitioned: PostgresWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "NOTE_PARTITIONS", postgres.NOTE_PARTITIONS.replace("1000", "2"))
    await note_all(partitioned)
    await database.run("truncate hour_0")
    for _ in range(5):
        assert await partitioned.note_partitions()
    await database.run("drop table hour_1")
    await note_all(partitioned)
    assert await known(database) == []


async def test_it_writes_nothing_where_nothing_changed_and_two_take_turns(
    database: Database, partitioned: PostgresWriter
) -> None:
    await note_all(partitioned)
    await database.run("begin; select tracking_note_partitions(9)")
    assert await database.rows("select coalesce(pg_current_xact_id_if_assigned()::text, '')") == [[""]]
    await database.run("truncate hour_0")
    assert not await partitioned.note_partitions(), "another daemon is at it"
    await database.run("rollback")


async def test_a_table_that_is_not_in_partitions(database: Database, writer: PostgresWriter) -> None:
    await writer.store(fixes(0, 1))
    await note_all(writer)
    assert await database.rows(KNOWN) == [["R1", "P001"]]
    await database.run("begin; select tracking_note_partitions(9)")
    assert await database.rows("select coalesce(pg_current_xact_id_if_assigned()::text, '')") == [[""]]
    await database.run("rollback")


async def test_the_rights_of_the_readme_are_enough(database: Database, partitioned: PostgresWriter) -> None:
    await database.run("""
        drop role if exists noter; create role noter login password 'short';
        grant select, insert on tracking_positions to noter; grant select on tracking_participant_counts to noter""")
    ordinary = PostgresWriter(attrs.evolve(database.address, user="noter", password=Secret("short")))
    await note_all(partitioned)
    await database.run("drop table hour_0")
    await note_all(ordinary)
    assert await known(database) == some(5, 10)
    await ordinary.aclose()
    await database.run("drop owned by noter; drop role noter")
