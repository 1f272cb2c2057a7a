"""Rows of tracking_positions, as reader_sql asks for them, as fixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from struct import Struct

import trio
from psycopg.pq.abc import PGresult

from actors.core.fix import STATUSES, Fix, newest_of
from actors.history.cursor import EARLIEST_US, LATEST_US
from actors.history.postgres.binary import EPOCH_US
from actors.history.postgres.reader_sql import NUMBERS, PARTICIPANT, RACE, STATUS

SLICE_ROWS = 500  # decoded without giving way to other tasks: about 0.5 ms

_STATUS_INDEX = {status.encode(): index for index, status in enumerate(STATUSES)}
_numbers = Struct(">16sddqq").unpack  # uuid, twice double precision, twice timestamptz


async def fixes_of(result: PGresult, race_id: str, most: int | None = None) -> list[Fix]:
    """Rows as fixes; a row of another writer that is no position (NaN, infinity, a status of its own) is left out."""
    fixes: list[Fix] = []
    rows = result.ntuples if most is None else min(most, result.ntuples)
    for start in range(0, rows, SLICE_ROWS):
        if start:
            await trio.lowlevel.checkpoint()
        fixes += _slice(result, range(start, min(start + SLICE_ROWS, rows)), race_id)
    return fixes


async def fixes_by_race(result: PGresult, race_ids: Sequence[str], most_rows: int) -> dict[str, list[Fix] | None]:
    """The newest fixes by race, of rows that follow each other race by race; None where there are more rows than that.

    Each has the number of its race, from 1. Races without any row are left out; one of nulls is no fix.
    """
    found: dict[str, list[Fix] | None] = {}
    starts = [row for row in range(result.ntuples) if row == 0 or _race(result, row) != _race(result, row - 1)]
    for start, end in zip(starts, [*starts[1:], result.ntuples], strict=False):  # no row, no race
        race_id = race_ids[int.from_bytes(_race(result, start)) - 1]
        if end - start > most_rows:
            found[race_id] = None
        elif result.get_value(start, STATUS) is None:
            found[race_id] = []
        else:
            found[race_id] = newest_of(_slice(result, range(start, end), race_id))
        await trio.lowlevel.checkpoint()
    return found


def place_of(result: PGresult, row: int) -> tuple[int, bytes]:
    """Where a page goes on behind this row: its client_timestamp in Unix µs, and its id."""
    key, _, _, sent, _ = _numbers(result.get_value(row, NUMBERS) or b"")
    return sent + EPOCH_US, key


def _race(result: PGresult, row: int) -> bytes:
    return result.get_value(row, RACE) or b""


def _slice(result: PGresult, rows: range, race_id: str) -> list[Fix]:
    """All in one place, because calls would double what a row of an export costs here."""
    value: Callable[[int, int], bytes] = result.get_value  # type: ignore[assignment]  # no column is ever null
    fixes = []
    for row in rows:
        status = _STATUS_INDEX.get(value(row, STATUS))
        key, latitude, longitude, sent, arrived = _numbers(value(row, NUMBERS))
        if status is None or not isfinite(latitude + longitude):
            continue
        arrived_us = arrived + EPOCH_US
        fixes.append(
            Fix(
                race_id,
                value(row, PARTICIPANT).decode(),
                round(latitude * 1e7),
                round(longitude * 1e7),
                (sent + EPOCH_US) // 1000,
                status,
                (arrived_us if EARLIEST_US <= arrived_us <= LATEST_US else in_calendar(arrived_us)) // 1000,
                key,
            )
        )
    return fixes


def in_calendar(unix_us: int) -> int:
    """The nearest moment of the years 1 to 9999."""
    return min(max(unix_us, EARLIEST_US), LATEST_US)
