"""The writer and a table in partitions: it says which fixes have none, and when that may have changed."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from actors.core.errors import NoPartition, StoreMisconfigured
from actors.core.fix import Fix
from actors.history.postgres.writer import PostgresWriter
from tests.kit.making import BASE_MS, make_fix
from tests.kit.stores import COUNT, Database

pytestmark = pytest.mark.live

TABLE = """
create type participant_status as enum ('moving', 'stopped', 'finished', 'disqualified');
create table tracking_positions (
  id uuid primary key, participant_id varchar(50) not null, race_id varchar(50) not null,
  latitude numeric(10, 7) not null, longitude numeric(10, 7) not null, client_timestamp timestamptz not null,
  server_received_at timestamptz not null, status participant_status not null) partition by """
HOUR_S = 3600
SESSIONS = "select pid::text from pg_stat_activity where datname = current_database() order by pid"


def hours(first: int, last: int) -> str:
    """Bounds of a partition, in hours since BASE_MS."""
    low, high = (f"{BASE_MS + hour * HOUR_S * 1000 << 80:032x}" for hour in (first, last))
    return f"for values from ('{low}') to ('{high}')"


def fixes(*at_hours: int) -> list[Fix]:
    return [make_fix(at_s=hour * HOUR_S) for hour in at_hours]


async def without(writer: PostgresWriter, some: Collection[Fix]) -> list[int]:
    """The hours of those that have no partition. None is stored."""
    with pytest.raises(NoPartition, match="no partition of relation") as raised:
        await writer.store(list(some))
    assert raised.value.partitions == await writer.partitions()
    return [(fix.timestamp_ms - BASE_MS) // 1000 // HOUR_S for fix in some if fix.id in raised.value.ids]


async def test_it_names_all_that_have_none_and_stores_the_others(database: Database) -> None:
    await database.run(f"{TABLE} range (id)")
    writer = PostgresWriter(database.address)
    assert await without(writer, fixes(0, 1)) == [0, 1], "there is no partition at all"
    none = await writer.partitions()
    assert none.by == "RANGE (id)"
    await database.run(f"create table p1 partition of tracking_positions {hours(1, 3)}")
    some = await writer.partitions()
    assert some != none
    assert await without(writer, fixes(0, 1, 2, 3, 5)) == [0, 3, 5]
    assert await database.rows(COUNT) == [["0"]]
    sessions = await database.rows(SESSIONS)
    assert await writer.store(fixes(1, 2)) == 2
    assert await without(writer, fixes(0, 1)) == [0]
    assert await database.rows(SESSIONS) == sessions, "on the same connection"
    await database.run("alter table tracking_positions detach partition p1")
    assert await writer.partitions() == none
    await writer.aclose()


async def test_partitions_in_partitions_and_one_for_all_others(database: Database) -> None:
    await database.run(f"""{TABLE} range (id);
        create table day partition of tracking_positions {hours(0, 24)} partition by range (id);
        create table noon partition of day {hours(12, 13)}""")
    writer = PostgresWriter(database.address)
    assert await without(writer, fixes(0, 12, 30)) == [0, 30]
    await database.run("create table others partition of tracking_positions default")
    assert await without(writer, fixes(0, 12, 30)) == [0]
    await database.run("create table other_hours partition of day default")
    assert await writer.store(fixes(0, 12, 30)) == 3
    await database.run("drop table day")
    assert await writer.store(fixes(1)) == 1
    await writer.aclose()


async def test_only_one_for_all_others(database: Database) -> None:
    await database.run(f"{TABLE} range (id); create table others partition of tracking_positions default")
    writer = PostgresWriter(database.address)
    assert await writer.store(fixes(0)) == 1
    assert (await writer.partitions()).takes == "true"
    await writer.aclose()


async def test_by_hash(database: Database) -> None:
    await database.run(f"""{TABLE} hash (id);
        create table half partition of tracking_positions for values with (modulus 2, remainder 0)""")
    writer = PostgresWriter(database.address)
    missing = await without(writer, fixes(*range(20)))
    assert 0 < len(missing) < 20
    there = fixes(*(hour for hour in range(20) if hour not in missing))
    assert await writer.store(there) == len(there)
    await writer.aclose()


@pytest.mark.parametrize("partitioned", [True, False])
async def test_another_table_without_a_partition_is_a_fault_of_the_set_up(
    database: Database, partitioned: bool
) -> None:
    """One to which a trigger writes: no row of ours is better than the others."""
    writer = PostgresWriter(database.address)
    if partitioned:
        await database.run(f"{TABLE} range (id); create table p partition of tracking_positions {hours(0, 9)}")
    await writer.ping()
    await database.run("""
        create table audit (id uuid) partition by range (id);
        create function copy() returns trigger language plpgsql as
          $$ begin insert into audit values (new.id); return new; end $$;
        create trigger copy before insert on tracking_positions for each row execute function copy()""")
    with pytest.raises(StoreMisconfigured, match='no partition of relation "audit"') as raised:
        await writer.store(fixes(1))
    assert type(raised.value) is StoreMisconfigured
    assert (await writer.partitions()).by == ("RANGE (id)" if partitioned else "")
    await writer.aclose()
