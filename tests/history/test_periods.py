"""Months and weeks as ranges of ids: every id is in one and in no other; what is missing is made, and no more."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.identity import LAST_MS, first_id, fix_id
from actors.core.timestamps import DAY_MS, EARLIEST_MS, LATEST_MS, format_ms
from actors.history.periods import (
    AHEAD,
    Period,
    Width,
    ahead,
    end_of,
    month_of,
    name_of,
    read_bounds,
    sql_of,
    start_of,
    width_of,
)

widths = st.sampled_from(list(Width))
moments = st.integers(0, LATEST_MS)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def period(text: str, width: Width) -> Period:
    """The one with this day in it."""
    return Period(start_of(ms(text), width), end_of(ms(text), width))


@given(moments, widths)
def test_each_id_is_in_one_period_and_in_no_other(at_ms: int, width: Width) -> None:
    here = Period(start_of(at_ms, width), end_of(at_ms, width))
    row = fix_id("R", "P", at_ms, 1, 2, 0)
    assert first_id(here.low_ms) <= row < first_id(here.high_ms)
    if here.low_ms:
        assert end_of(here.low_ms - 1, width) == here.low_ms, "the one before ends where this one begins"
    if here.high_ms <= LATEST_MS:
        assert start_of(here.high_ms, width) == here.high_ms, "the next one begins where this one ends"


@given(moments, widths)
def test_they_are_those_of_the_calendar(at_ms: int, width: Width) -> None:
    moment = datetime.fromisoformat(format_ms(at_ms))
    first = datetime.fromisoformat(format_ms(start_of(at_ms, width)))
    last = datetime.fromisoformat(format_ms(end_of(at_ms, width) - 1))
    for each in (first, last):
        if width is Width.MONTH:
            assert (each.year, each.month) == (moment.year, moment.month)
        else:
            assert each.isocalendar()[:2] == moment.isocalendar()[:2]
    name = name_of(Period(start_of(at_ms, width), end_of(at_ms, width)), width)
    year, week, _ = moment.isocalendar()
    assert name.removeprefix("tracking_positions_") == (
        f"{moment:%Y_%m}" if width is Width.MONTH else f"{year}_w{week:02}"
    )


@pytest.mark.parametrize(
    ("day", "width", "first", "end", "name"),
    [
        ("2024-02-29", Width.MONTH, "2024-02-01", "2024-03-01", "2024_02"),  # a leap year
        ("2100-02-28", Width.MONTH, "2100-02-01", "2100-03-01", "2100_02"),  # none
        ("2026-12-31", Width.MONTH, "2026-12-01", "2027-01-01", "2026_12"),
        ("2027-01-03", Width.WEEK, "2026-12-28", "2027-01-04", "2026_w53"),  # days of the year before
        ("2024-12-30", Width.WEEK, "2024-12-30", "2025-01-06", "2025_w01"),  # and of the next
        ("1970-01-02", Width.MONTH, "1970-01-01", "1970-02-01", "1970_01"),
        ("1970-01-02", Width.WEEK, "1970-01-01", "1970-01-05", "1970_w01"),  # it began in 1969, but no id does
    ],
)
def test_ends_of_years(day: str, width: Width, first: str, end: str, name: str) -> None:
    found = period(day, width)
    assert found == Period(ms(first), ms(end))
    assert name_of(found, width) == f"tracking_positions_{name}"
    assert month_of("2026-12") == period("2026-12-15", Width.MONTH)


def test_the_end_of_time() -> None:
    for width in Width:
        assert end_of(LATEST_MS, width) == LATEST_MS + 1
        missing = ahead([], width, LATEST_MS)
        assert missing[-1] == Period(start_of(LATEST_MS, width), LATEST_MS + 1)
    assert first_id(LAST_MS + 5) == first_id(LAST_MS)
    assert first_id(-5) == bytes(16)


@given(moments, moments)
def test_an_id_is_before_the_first_of_a_later_moment(one: int, other: int) -> None:
    assert (fix_id("R", "P", one, 1, 2, 0) < first_id(other)) == (one < other)


@given(st.integers(0, LAST_MS), st.integers(0, LAST_MS))
def test_bounds_are_read_back(low: int, high: int) -> None:
    """As PostgreSQL writes them: words in capitals."""
    text = Period(low, high).bounds.replace("from", "FROM").replace("to", "TO")
    assert read_bounds(f"FOR VALUES {text}") == Period(low, high)


def test_bounds_of_others() -> None:
    assert read_bounds("FOR VALUES FROM (MINVALUE) TO (MAXVALUE)") == Period(0, LAST_MS)
    halves = "FOR VALUES FROM ('00000000-0005-8000-0000-000000000000') TO ('00000000-0007-0000-0000-000000000001')"
    assert read_bounds(halves) == Period(5, 8), "as far as anything of it goes"
    for text in (
        "DEFAULT",
        "FOR VALUES WITH (modulus 2, remainder 1)",
        "FOR VALUES IN ('x')",
        "",
        "FROM ('2020-01-01')",
    ):
        assert read_bounds(text) is None


def test_the_width_is_that_of_the_latest_month_or_week() -> None:
    month, week = period("2026-10-05", Width.MONTH), period("2026-11-05", Width.WEEK)
    assert width_of([]) is None
    assert width_of([month, week]) == width_of([week, month]) == Width.WEEK
    assert width_of([month, Period(month.high_ms, month.high_ms + DAY_MS)]) == Width.MONTH
    assert width_of([Period(0, ms("2026-10-01")), Period(ms("2100-01-01"), LAST_MS), Period(LAST_MS, LAST_MS)]) is None


NOW = ms("2026-11-30")


def named(missing: list[Period], width: Width) -> list[str]:
    return [name_of(each, width).removeprefix("tracking_positions_") for each in missing]


def test_at_first_one_back_and_some_ahead() -> None:
    assert named(ahead([], Width.MONTH, NOW), Width.MONTH) == ["2026_10", "2026_11", "2026_12", "2027_01"]
    weeks = ["2026_w48", "2026_w49", "2026_w50", "2026_w51", "2026_w52", "2026_w53"]
    assert named(ahead([], Width.WEEK, NOW), Width.WEEK) == weeks
    assert named(ahead([], Width.MONTH, 0), Width.MONTH) == ["1970_01", "1970_02", "1970_03"]


def test_what_was_taken_away_is_not_made_again() -> None:
    """Neither before the first one nor between two; only since a day that somebody names."""
    there = [period(f"2026-{month}-01", Width.MONTH) for month in ("06", "08", "09")]
    assert named(ahead(there, Width.MONTH, NOW), Width.MONTH) == ["2026_10", "2026_11", "2026_12", "2027_01"]
    lately = [period("2026-09-01", Width.MONTH), period("2026-11-01", Width.MONTH)]
    assert named(ahead(lately, Width.MONTH, NOW), Width.MONTH) == ["2026_12", "2027_01"]
    since = named(ahead(there, Width.MONTH, NOW, ms("2026-05-17")), Width.MONTH)
    assert since == ["2026_05", "2026_07", "2026_10", "2026_11", "2026_12", "2027_01"]


def test_around_others() -> None:
    """One that ends in the midst of a month, one for ids that are no times, another width than until now."""
    old, far = Period(0, ms("2026-12-15")), Period(ms("2100-01-01"), LAST_MS)
    assert named(ahead([old, far], Width.MONTH, NOW), Width.MONTH) == ["2026_12_15", "2027_01"]
    assert named(ahead([old, far], Width.WEEK, NOW), Width.WEEK) == ["2026_w51_15", "2026_w52", "2026_w53"]
    early = Period(ms("2027-01-10"), ms("2027-02-01"))
    assert ahead([old, early], Width.MONTH, NOW) == [
        Period(ms("2026-12-15"), ms("2027-01-01")),
        Period(ms("2027-01-01"), early.low_ms),
    ]


@st.composite
def layouts(draw: st.DrawFn) -> list[Period]:
    """Some that do not overlap, around the present."""
    edges = sorted(draw(st.sets(st.integers(EARLIEST_MS, NOW + 400 * DAY_MS), max_size=12)))
    return [Period(low, high) for low, high in pairwise(edges) if draw(st.booleans())]


@given(layouts(), widths, st.integers(NOW - 100 * DAY_MS, NOW), st.none() | st.integers(NOW - 900 * DAY_MS, NOW))
def test_afterwards_nothing_overlaps_and_nothing_is_missing(
    there: list[Period], width: Width, now_ms: int, since_ms: int | None
) -> None:
    made = ahead(there, width, now_ms, since_ms)
    for each, following in pairwise(sorted([*there, *made], key=lambda period: period.low_ms)):
        assert each.low_ms < each.high_ms <= following.low_ms
    for each in made:
        assert each.high_ms <= end_of(each.low_ms, width), "none is wider than it is called"
    assert len({name_of(each, width) for each in made}) == len(made)
    end = now_ms
    for _ in range(AHEAD[width] + 1):
        end = end_of(end, width)
    at = now_ms if since_ms is None else since_ms
    while at < end:  # all of that time is in one
        (there_now,) = (each for each in (*there, *made) if each.low_ms <= at < each.high_ms)
        at = there_now.high_ms
    assert ahead([*there, *made], width, now_ms, since_ms) == []


def test_what_is_told_to_an_operator_is_what_is_run() -> None:
    create, attach = sql_of(period("2020-02-15", Width.MONTH), Width.MONTH)
    assert create == "create table tracking_positions_2020_02 (like tracking_positions including all)"
    assert attach == (
        "alter table tracking_positions attach partition tracking_positions_2020_02"
        " for values from ('016ffe0c-0c00-0000-0000-000000000000') to ('01709364-7800-0000-0000-000000000000')"
    )
    create, attach = sql_of(period("2020-02-15", Width.WEEK), Width.WEEK, '"My"')
    assert create.startswith('create table "My".tracking_positions_2020_w07 (like "My".tracking_positions ')
    assert attach.startswith('alter table "My".tracking_positions attach partition "My".tracking_positions_2020_w07 ')
