"""Points of recordings, judged: times as they come, coordinates, repeats; and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.errors import RejectionCode
from actors.core.fix import Fix
from actors.core.rejection import payload_of
from actors.core.timestamps import DAY_MS, LATEST_MS
from actors.ingest.decode import decode
from actors.ingest.validate import Rules
from actors.recordings.judging import Judge
from actors.recordings.points import LeftOut, Point, PointAccount, Reason
from actors.recordings.times import time_ms

TIME = "2025-07-01T08:15:30Z"
TIME_MS = 1_751_357_730_000
BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        (TIME, TIME),
        ("\n  2025-07-01T08:15:30Z\t\r\n", TIME),
        ("2025-07-01t08:15:30z", TIME),
        ("2025-07-01T10:15:30+02:00", TIME),
        ("2025-07-01T10:15:30+0200", TIME),
        ("2025-07-01T10:15:30+02", TIME),
        ("2025-07-01T01:15:30-07:00", TIME),
        ("2025-07-01T01:15:30-0700", TIME),
        ("2025-07-01T08:15:30.123456789Z", "2025-07-01T08:15:30.123Z"),
        ("2025-07-01T08:15:30.1234567890123Z", "2025-07-01T08:15:30.123Z"),
        ("2025-07-01T08:15:30.5+0000", "2025-07-01T08:15:30.500Z"),
        ("2025-07-01T08:15:30,5Z", "2025-07-01T08:15:30.500Z"),
        ("2025-07-01 08:15:30Z", TIME),
        ("2025-07-01T08:15:30 Z", TIME),
        ("2025-07-01\n\t08:15:30 +00:00", TIME),
        ("\u00a02025-07-01T08:15:30Z\u2028", TIME),
        ("2025-7-1T8:15:30Z", TIME),
        ("2025-07-01T24:00:00Z", "2025-07-02T00:00:00Z"),
        ("2025-12-31T24:00:00.000+01:00", "2025-12-31T23:00:00Z"),
        ("2000-01-02T00:00:00Z", "2000-01-02T00:00:00Z"),
    ],
)
def test_times(text: str, means: str) -> None:
    assert time_ms(text, None) == ms(means)
    assert time_ms(text, BERLIN) == ms(means), "a zone is for times that have none"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", LeftOut.NO_TIME),
        (" \n ", LeftOut.NO_TIME),
        ("2025-07-01T08:15:30", LeftOut.NO_ZONE),
        ("2025-07-01T24:00:00", LeftOut.NO_ZONE),
        ("1970-01-01T00:00:01Z", LeftOut.PLACEHOLDER),
        ("0001-01-01T00:00:00+23:59", LeftOut.PLACEHOLDER),
        ("1980-01-06T00:00:00.000Z", LeftOut.PLACEHOLDER),
        ("1989-12-31T24:00:00Z", LeftOut.PLACEHOLDER),
        ("1999-12-31T23:59:59-05:00", LeftOut.PLACEHOLDER),
        ("2000-01-01T00:00:00Z", LeftOut.PLACEHOLDER),
        ("2000-01-01T00:00:40Z", LeftOut.PLACEHOLDER),
        ("2025-07-01T10:15:30+99:00", RejectionCode.BAD_TIMESTAMP),
        ("2025-07-01T24:00:01Z", RejectionCode.BAD_TIMESTAMP),
        ("2025-07-01T24:00:00.5Z", RejectionCode.BAD_TIMESTAMP),
        ("2025-07-01T08:15:60Z", RejectionCode.BAD_TIMESTAMP),
        ("2025-02-30T08:15:30Z", RejectionCode.BAD_TIMESTAMP),
        ("2025-02-30T08:15:30", RejectionCode.BAD_TIMESTAMP),
        ("9999-12-31T24:00:00Z", RejectionCode.BAD_TIMESTAMP),
        ("0000-01-01T00:00:00Z", RejectionCode.BAD_TIMESTAMP),
        ("2025-07-01", RejectionCode.BAD_TIMESTAMP),
        ("2025-07-01T08:15Z", RejectionCode.BAD_TIMESTAMP),
        ("2025-07-01 08:15:30", LeftOut.NO_ZONE),
        ("2025-07-0108:15:30Z", RejectionCode.BAD_TIMESTAMP),
        ("20250701T081530Z", RejectionCode.BAD_TIMESTAMP),
        ("٢٠٢٥-07-01T08:15:30Z", RejectionCode.BAD_TIMESTAMP),
        ("yesterday", RejectionCode.BAD_TIMESTAMP),
    ],
)
def test_times_that_are_none(text: str, reason: Reason) -> None:
    assert time_ms(text, None) is reason


@pytest.mark.parametrize(
    ("text", "zone", "means"),
    [
        ("2025-07-01T10:15:30", "Europe/Berlin", TIME),
        ("2025-07-01T10:15:30.25", "Europe/Berlin", "2025-07-01T08:15:30.250Z"),
        ("2025-01-01T24:00:00", "Europe/Berlin", "2025-01-01T23:00:00Z"),
        ("2025-03-30T24:00:00", "Europe/Berlin", "2025-03-30T22:00:00Z"),
        ("2025-07-01T15:15:30", "Asia/Jakarta", TIME),
    ],
)
def test_a_time_without_a_zone_is_of_the_one_given(text: str, zone: str, means: str) -> None:
    assert time_ms(text, ZoneInfo(zone)) == ms(means)


def test_the_hour_that_comes_twice_goes_on() -> None:
    last_ms: int | None = None
    found = []
    for clock in ("01:59:59", "02:00:00", "02:59:59", "02:00:00", "02:59:59", "03:00:00"):
        at_ms = time_ms(f"2025-10-26T{clock}", BERLIN, last_ms)
        assert isinstance(at_ms, int)
        found.append(last_ms := at_ms)
    start = ms("2025-10-25T23:59:59Z")
    assert [(at - start) // 1000 for at in found] == [0, 1, 3600, 3601, 7200, 7201]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Adak"])
def test_the_ends_of_the_calendar_in_a_zone(zone: str) -> None:
    assert time_ms("0001-01-01T00:00:00", ZoneInfo(zone)) in (LeftOut.PLACEHOLDER, RejectionCode.BAD_TIMESTAMP)
    assert time_ms("9999-12-31T24:00:00", ZoneInfo(zone)) is RejectionCode.BAD_TIMESTAMP


@given(
    st.datetimes(datetime(2000, 1, 3), datetime(2100, 1, 1)),
    st.timedeltas(-timedelta(hours=23, minutes=59), timedelta(hours=23, minutes=59)),
)
def test_a_moment_is_the_same_in_every_zone(moment: datetime, offset: timedelta) -> None:
    minutes = round(offset.total_seconds() / 60)
    local = moment + timedelta(minutes=minutes)
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    for colon in (":", ""):
        text = f" {local.isoformat()}{sign}{hours:02d}{colon}{rest:02d} "
        assert time_ms(text, None) == (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
            milliseconds=1
        )


def judge(*points: Point, shift_ms: int = 0, latest_ms: int = LATEST_MS) -> list[Fix | Reason]:
    judging = Judge("R1", "P1", None, shift_ms, latest_ms)
    return [judging.judge(point) for point in points]


def point(latitude: str | None = "1", longitude: str | None = "2", time: str | None = TIME) -> Point:
    return Point(1, latitude, longitude, time)


def test_a_point_is_the_fix_that_the_daemon_makes_of_it() -> None:
    (fix,) = judge(point(" -7.94560005 ", "112.61449999999", "2025-07-01T10:15:30.5+02:00"))
    assert isinstance(fix, Fix)
    assert (fix.race_id, fix.participant_id, fix.lat_e7, fix.lon_e7) == ("R1", "P1", -79_456_001, 1_126_145_000)
    assert fix.timestamp_ms == TIME_MS + 500
    ((again,), none) = decode(b"t", payload_of(fix), TIME_MS, Rules(10_000))
    assert (again.id, none) == (fix.id, [])


@pytest.mark.parametrize(
    ("latitude", "longitude", "reason"),
    [
        (None, "2", RejectionCode.MISSING_FIELD),
        ("1", None, RejectionCode.MISSING_FIELD),
        *((text, "2", RejectionCode.BAD_COORDINATE) for text in ("undefined", "NaN", "inf", "1,5", "", "1_0", "٣")),
        ("1e999", "2", RejectionCode.BAD_COORDINATE),
        ("90.00000001", "2", RejectionCode.BAD_COORDINATE),
        ("1", "-180.1", RejectionCode.BAD_COORDINATE),
        ("200", "100", RejectionCode.BAD_COORDINATE),
        ("90.0", "-80.0", LeftOut.MARKER),
        ("100", "180", LeftOut.MARKER),
        ("0", "-0.0", RejectionCode.NO_FIX),
        ("1e-9", "-0.00000001", RejectionCode.NO_FIX),
    ],
)  # fmt: skip
def test_places_that_are_none(latitude: str | None, longitude: str | None, reason: Reason) -> None:
    assert judge(point(latitude, longitude)) == [reason]


@pytest.mark.parametrize(("text", "e7"), [("1.0E-5", 100), ("+1.5", 15_000_000), (".5", 5_000_000), ("5.", 50_000_000)])
def test_numbers_as_devices_write_them(text: str, e7: int) -> None:
    (fix,) = judge(point(text))
    assert isinstance(fix, Fix)
    assert fix.lat_e7 == e7


def test_of_one_moment_the_first_that_can_be_used_stands() -> None:
    at = [f"2025-07-01T08:15:{second}Z" for second in (30, 35, 40, 45)]
    found = judge(
        point(time=at[1]),
        point(time=at[1]),
        point("3", time=at[1]),
        point("undefined", time=at[0]),
        point(time=at[0]),  # back in time: GPX promises no order
        point(time=at[3]),
        point(time="2025-07-01T10:15:40+02:00"),
        point("5", time=at[2]),
    )
    again = LeftOut.REPEATED
    reasons = [None if isinstance(one, Fix) else one for one in found]
    assert reasons == [None, again, again, RejectionCode.BAD_COORDINATE, None, None, None, again]


def test_participants_of_one_file_have_moments_of_their_own() -> None:
    points = [Point(1, "1", "2", TIME, participant=name) for name in ("Zoe\u0308", "P2", "Zoë", "a b")]
    first, second, *others = judge(*points)
    assert isinstance(first, Fix)
    assert isinstance(second, Fix)
    assert (first.participant_id, second.participant_id) == ("Zoë", "P2")
    assert others == [LeftOut.REPEATED, RejectionCode.BAD_ID]


def test_a_route_is_where_nobody_has_been() -> None:
    assert judge(Point(1, "1", "2", TIME, planned=True)) == [LeftOut.ROUTE]


def test_shifted_and_then_judged() -> None:
    (fix,) = judge(point(), shift_ms=-1500)
    assert isinstance(fix, Fix)
    assert fix.timestamp_ms == TIME_MS - 1500
    for shift_ms in (-TIME_MS - 1, -TIME_MS, -30 * 366 * DAY_MS, LATEST_MS):
        assert judge(point(), shift_ms=shift_ms) == [RejectionCode.BAD_TIMESTAMP]
    (last,) = judge(point(), shift_ms=LATEST_MS - TIME_MS)
    assert isinstance(last, Fix)


def test_the_latest_time() -> None:
    assert isinstance(judge(point(), latest_ms=TIME_MS)[0], Fix)
    assert judge(point(), latest_ms=TIME_MS - 1) == [RejectionCode.IN_THE_FUTURE]
    assert judge(point(), latest_ms=TIME_MS, shift_ms=1) == [RejectionCode.IN_THE_FUTURE]


def test_the_summary() -> None:
    tally = PointAccount()
    assert tally.summary == "read 0 points, left out 0"
    assert not tally.is_course
    tally.read = 1200
    for line in (7, 9, 10):
        tally.leave_out(LeftOut.NO_TIME if line > 7 else RejectionCode.BAD_COORDINATE, line)
    assert tally.summary == "read 1,200 points, left out 3: no time 2 (line 9), bad_coordinate 1 (line 7)"
    assert not tally.is_course


def test_a_course() -> None:
    assert PointAccount(read=3, left_out={LeftOut.NO_TIME: 2, LeftOut.ROUTE: 1}).is_course
    assert not PointAccount(read=3, left_out={LeftOut.NO_TIME: 2}).is_course
    assert not PointAccount(read=3, left_out={LeftOut.NO_TIME: 2, LeftOut.NO_ZONE: 1}).is_course


@pytest.mark.parametrize(
    ("first", "looks"),
    [("2010-01-01T00:00:00Z", True), ("2010-01-01T00:00:01Z", False), ("2010-02-01T00:00:00Z", False)],
)
def test_times_that_begin_with_a_year(first: str, looks: bool) -> None:
    assert PointAccount(first_ms=ms(first)).looks_made_up is looks
    assert not PointAccount().looks_made_up
