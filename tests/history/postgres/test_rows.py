"""Rows as fixes, also those that another writer has made."""

from __future__ import annotations

from random import Random

import pytest
import trio

from actors.core.fix import STATUSES, Fix
from actors.core.timestamps import LATEST_MS
from actors.history.postgres import migration, rows
from actors.history.postgres.reader_sql import COLUMNS
from tests.kit.stores import Database

pytestmark = pytest.mark.live

EARLIEST_US = -62_135_596_800_000_000  # the year 1
LATEST_US = LATEST_MS * 1000 + 999
MOST_E7 = 10**10 - 1  # of numeric(10, 7)
CORNERS_E7 = [0, 1, -1, 10, 99_999, -1_800_000_000, 1_800_000_000, 900_000_000, MOST_E7, -MOST_E7]
CORNERS_US = [0, -1, 999, 1000, -1000, EARLIEST_US, LATEST_US]
NAMES = ["P1", "Zoë", 'a"b', "it's", "\\", "", " ", "\u2028\U0001f3c1", "\t\n"]


async def stored(database: Database, values: list[str]) -> None:
    await migration.apply(database.connection)
    await database.run(f"insert into tracking_positions values {', '.join(values)}")


async def read(database: Database, most: int | None = None) -> list[Fix]:
    result = await database.connection.query(f"select {COLUMNS} from tracking_positions order by id")
    return await rows.fixes_of(result, "R1", most)


def made(number: int, name: str, lat_e7: int, lon_e7: int, sent_us: int, arrived_us: int, status: int) -> str:
    lat, lon = (f"{'-' if e7 < 0 else ''}{abs(e7) // 10**7}.{abs(e7) % 10**7:07d}" for e7 in (lat_e7, lon_e7))
    sent, arrived = (f"'1970-01-01Z'::timestamptz + '{us} microseconds'::interval" for us in (sent_us, arrived_us))
    quoted = name.replace("'", "''")
    return f"('{number:032x}', '{quoted}', 'R1', {lat}, {lon}, {sent}, {arrived}, '{STATUSES[status]}')"


async def test_every_value_comes_back_exactly(database: Database) -> None:
    """Of a moment the whole ms before it."""
    random = Random(7)
    given = [
        (
            number,
            random.choice(NAMES),
            random.choice([*CORNERS_E7, random.randint(-MOST_E7, MOST_E7), random.randint(-(10**9), 10**9)]),
            random.choice([*CORNERS_E7, random.randint(-MOST_E7, MOST_E7), random.randint(-1000, 1000)]),
            random.choice([*CORNERS_US, random.randint(EARLIEST_US, LATEST_US), random.randint(0, 2 * 10**15)]),
            random.choice([*CORNERS_US, random.randint(EARLIEST_US, LATEST_US), random.randint(0, 2 * 10**15)]),
            random.randrange(4),
        )
        for number in range(5000)
    ]
    await stored(database, [made(*each) for each in given])
    assert await read(database) == [
        Fix("R1", name, lat_e7, lon_e7, sent_us // 1000, status, arrived_us // 1000, number.to_bytes(16))
        for number, name, lat_e7, lon_e7, sent_us, arrived_us, status in given
    ]
    assert len(await read(database, most=1234)) == 1234


async def test_what_is_no_position_is_left_out(database: Database) -> None:
    await migration.apply(database.connection)
    await database.run("alter type participant_status add value 'abducted'")
    await database.run("alter table tracking_positions alter latitude type numeric, alter longitude type numeric")
    good = made(1, "P1", 1, 2, 0, 0, 3)
    await stored(
        database,
        [
            good,
            made(2, "P2", 1, 2, 0, 0, 3).replace("'disqualified'", "'abducted'"),
            *(
                made(number, "P3", 1, 2, 0, 0, 0).replace(" 0.0000001,", f" '{no_number}',")
                for number, no_number in enumerate(["NaN", "Infinity", "-Infinity"], 3)
            ),
            made(6, "P4", 1, 2, 0, 0, 0).replace(" 0.0000002,", " 'NaN',"),
            made(7, "P5", 3, 4, 0, 0, 0),
        ],
    )
    assert [fix.participant_id for fix in await read(database)] == ["P1", "P5"]


async def test_an_arrival_beyond_all_years_is_the_nearest_that_can_be_written(database: Database) -> None:
    epoch = "'1970-01-01Z'::timestamptz + '1 microseconds'::interval"
    beyond = ["infinity", "-infinity", "294276-01-01", "4713-01-02 BC"]
    await stored(
        database,
        [made(number, "P1", 1, 2, 0, 1, 0).replace(epoch, f"'{moment}'") for number, moment in enumerate(beyond)],
    )
    assert [fix.arrived_ms for fix in await read(database)] == [LATEST_MS, EARLIEST_US // 1000] * 2


async def test_others_have_their_turn_meanwhile(database: Database) -> None:
    await stored(database, [made(number, "P1", 1, 2, 0, 0, 0) for number in range(rows.SLICE_ROWS * 5)])
    result = await database.connection.query(f"select {COLUMNS} from tracking_positions")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await rows.fixes_of(result, "R1")
        nursery.cancel_scope.cancel()
    assert turns >= 2
