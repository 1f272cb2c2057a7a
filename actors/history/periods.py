"""Months and ISO weeks of UTC as ranges of ids, for partitions: which there are, and which are missing.

Ids begin with 48 bits of Unix ms (core/identity.py), so a range of time is a range of ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from enum import StrEnum
from uuid import UUID

import attrs

from actors.core.identity import LAST_MS, first_id
from actors.core.timestamps import DAY_MS, LATEST_MS, format_ms

TABLE = "tracking_positions"

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_THURSDAY = 3  # 1970-01-01 was one: so many days after a Monday
_WEEK_MS = 7 * DAY_MS
_BOUND = re.compile(r"FROM \((?:'([0-9a-f-]+)'|MINVALUE)\) TO \((?:'([0-9a-f-]+)'|MAXVALUE)\)")


class Width(StrEnum):
    """Of partitions that are made here. Others may be of any width."""

    MONTH = "month"
    WEEK = "week"


AHEAD = {Width.MONTH: 2, Width.WEEK: 4}
"""So many partitions are there before their time: a month and more to mend what keeps the next one from being made."""


@attrs.frozen
class Period:
    """A partition, there or to be made: the ids of these Unix ms."""

    low_ms: int
    high_ms: int  # exclusive

    @property
    def bounds(self) -> str:
        """As SQL."""
        low, high = (UUID(bytes=first_id(ms)) for ms in (self.low_ms, self.high_ms))
        return f"for values from ('{low}') to ('{high}')"


def start_of(ms: int, width: Width) -> int:
    """The first ms of the month or week (from Monday) with this moment in it; 0 in that of 1970-01-01."""
    if width is Width.MONTH:
        return _month_ms(_month(ms))
    return max(0, (ms + _THURSDAY * DAY_MS) // _WEEK_MS * _WEEK_MS - _THURSDAY * DAY_MS)


def end_of(ms: int, width: Width) -> int:
    """The first ms after it; in the last one of the year 9999 that after LATEST_MS."""
    if width is Width.MONTH:
        return _month_ms(_month(ms) + 1)
    week = (ms + _THURSDAY * DAY_MS) // _WEEK_MS + 1
    return min(week * _WEEK_MS - _THURSDAY * DAY_MS, LATEST_MS + 1)


def name_of(period: Period, width: Width) -> str:
    """Of its table: tracking_positions_2026_11, of a week tracking_positions_2026_w48 (with the year of ISO 8601).

    With a day behind, where it begins in the midst of one: _2026_11_15.
    """
    first = _day(period.low_ms)
    year, week, _ = first.isocalendar()
    name = f"{TABLE}_{first:%Y_%m}" if width is Width.MONTH else f"{TABLE}_{year}_w{week:02}"
    return name if period.low_ms == start_of(period.low_ms, width) else f"{name}_{first:%d}"


def sql_of(period: Period, width: Width, schema: str = "") -> list[str]:
    """What makes it, beside writers: made as a part of the table at once, it would wait for every reader, and all
    writers behind it. `schema`: as SQL."""
    within = f"{schema}." if schema else ""
    name = within + name_of(period, width)
    return [
        f"create table {name} (like {within}{TABLE} including all)",
        f"alter table {within}{TABLE} attach partition {name} {period.bounds}",
    ]


def month_of(day: str) -> Period:
    """`2026-11`."""
    ms = (date.fromisoformat(f"{day}-01").toordinal() - _EPOCH_DAY) * DAY_MS
    return Period(ms, end_of(ms, Width.MONTH))


def read_bounds(text: str) -> Period | None:
    """Of pg_get_expr(relpartbound): None for those of a default partition, or of one that is not by ranges of uuid."""
    match = _BOUND.search(text)
    if match is None:
        return None
    low, high = (UUID(each).int if each else None for each in match.groups())
    return Period(0 if low is None else low >> 80, LAST_MS if high is None else -(-high >> 80))


def width_of(present: Sequence[Period]) -> Width | None:
    """Of the latest that is a month or a week."""
    in_calendar = (each for each in present if each.low_ms <= LATEST_MS)
    for each in sorted(in_calendar, key=lambda period: period.low_ms, reverse=True):
        for width in Width:
            if each == Period(start_of(each.low_ms, width), end_of(each.low_ms, width)):
                return width
    return None


def ahead(present: Sequence[Period], width: Width, now_ms: int, since_ms: int | None = None) -> list[Period]:
    """Those that are missing up to AHEAD after that of now, in order.

    From `since_ms` on, else from where the last of those ends that began by now: one that is missing before that was
    taken away. Where there is none, from the one before now's: what trackers kept for a while.
    """
    start, end = start_of(now_ms, width), end_of(now_ms, width)
    for _ in range(AHEAD[width]):
        end = end_of(min(end, LATEST_MS), width)
    if since_ms is not None:
        start = start_of(since_ms, width)
    elif begun := [each.high_ms for each in present if each.low_ms <= now_ms]:
        start = max(begun)
    elif start > 0:
        start = start_of(start - 1, width)
    return list(_gaps(present, width, start, end))


def _gaps(present: Sequence[Period], width: Width, start_ms: int, end_ms: int) -> Iterator[Period]:
    at = start_ms
    while at < end_ms:
        there = [each.high_ms for each in present if each.low_ms <= at < each.high_ms]
        if there:
            at = max(there)
            continue
        stop = min([end_of(at, width), *(each.low_ms for each in present if each.low_ms > at)])
        yield Period(at, stop)
        at = stop


def _day(ms: int) -> date:
    return date.fromisoformat(format_ms(ms)[:10])


def _month(ms: int) -> int:
    """Counted from year 0 on."""
    day = _day(ms)
    return day.year * 12 + day.month - 1


def _month_ms(month: int) -> int:
    year, before = divmod(month, 12)
    return (date(year, before + 1, 1).toordinal() - _EPOCH_DAY) * DAY_MS if year < 10_000 else LATEST_MS + 1
