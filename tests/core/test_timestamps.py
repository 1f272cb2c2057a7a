"""Moments as text: strict in, canonical out."""
# ruff: noqa: RUF001 digits of other scripts are the point

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.timestamps import EARLIEST_MS, format_ms, parse_ms, text_of

BASE_MS = 1_751_357_730_000  # 2025-07-01T08:15:30Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2025-07-01T08:15:30Z", BASE_MS),
        ("2025-07-01t08:15:30z", BASE_MS),
        ("2025-07-01T08:15:30.5Z", BASE_MS + 500),
        ("2025-07-01T08:15:30.25z", BASE_MS + 250),
        ("2025-07-01T08:15:30.123Z", BASE_MS + 123),
        ("2025-07-01T08:15:30.123456789Z", BASE_MS + 123),
        ("2025-07-01T08:15:30.999999999Z", BASE_MS + 999),
        ("2025-07-01T08:15:30+00:00", BASE_MS),
        ("2025-07-01T08:15:30-00:00", BASE_MS),
        ("2025-07-01T15:15:30+07:00", BASE_MS),
        ("2025-07-01T02:30:30.1-05:45", BASE_MS + 100),
        ("2025-07-02T08:14:30+23:59", BASE_MS),
        ("2000-01-01T00:00:00Z", EARLIEST_MS),
        ("1999-12-31T23:00:00.001-01:00", EARLIEST_MS + 1),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("9999-12-31T23:59:59-23:59", 253_402_300_799_000 + 86_340_000),
    ],
)
def test_takes(text: str, ms: int) -> None:
    assert parse_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-07-01",
        "2025-07-01T08:15:30",
        "2025-07-01T08:15Z",
        "2025-07-01T08Z",
        "2025-07-01 08:15:30Z",
        "2025-07-01_08:15:30Z",
        " 2025-07-01T08:15:30Z",
        "2025-07-01T08:15:30Z ",
        "2025-07-01T08:15:30Z\n",
        "2025-07-01T08:15:30 Z",
        "2025-W27-2T08:15:30Z",
        "2025-182T08:15:30Z",
        "20250701T081530Z",
        "2025-07-01T081530Z",
        "2025-7-1T8:15:30Z",
        "2025-07-01T08:15:60Z",
        "2025-07-01T08:15:60.123Z",
        "2025-07-01T08:15:60+00:00",
        "2025-07-01T08:60:30Z",
        "2025-07-01T24:00:00Z",
        "2025-02-29T08:15:30Z",
        "2025-06-31T08:15:30Z",
        "2025-00-01T08:15:30Z",
        "2025-13-01T08:15:30Z",
        "2025-07-00T08:15:30Z",
        "2025-07-01T08:15:30.Z",
        "2025-07-01T08:15:30,5Z",
        "2025-07-01T08:15:30.12xZ",
        "2025-07-01T08:15:3xZ",
        "2025-07-01T08:15:30.1234567890Z",
        "2025-07-01T08:15:30+99:99",
        "2025-07-01T08:15:30+24:00",
        "2025-07-01T08:15:30+05:60",
        "2025-07-01T08:15:30+0500",
        "2025-07-01T08:15:30+05",
        "2025-07-01T08:15:30+05:00:00",
        "2025-07-01T08:15:30Z+05:00",
        "2025-07-01T08:15:30 +05:00",
        "2025-07-01T08:15:30\u221205:00",
        "+2025-07-01T08:15:30Z",
        "-2025-07-01T08:15:30Z",
        "12025-07-01T08:15:30Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1970-01-01T00:00:00Z",
        "1999-12-31T23:59:59.999Z",
        "1999-12-31T23:59:59Z",
        "2000-01-01T00:30:00+01:00",
        "1751357730",
        "1751357730000",
        "٢٠٢٥-٠٧-٠١T٠٨:١٥:٣٠Z",
        "2025-07-01T08:15:٣٠Z",
        "2025-07-01T08:15:30.١٢٣Z",
        "2025-07-01T08:15:3０Z",
        "now",
        "2025-07-01T08:15:30Z" * 1000,
    ],
)
def test_refuses(text: str) -> None:
    assert parse_ms(text) is None


offsets = st.integers(-(23 * 60 + 59), 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(2000, 1, 3), datetime(9999, 12, 29), timezones=offsets)


@given(moments)
def test_agrees_with_datetime_in_any_zone(moment: datetime) -> None:
    whole_ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_ms(moment.isoformat()) == whole_ms


@given(st.integers(EARLIEST_MS, 253_402_300_799_999))
def test_what_is_written_is_read_back(ms: int) -> None:
    text = format_ms(ms)
    assert len(text) == 24
    assert parse_ms(text) == ms


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]{8,12}[Zz+-]?.{0,6}"))
def test_never_raises_and_takes_nothing_that_python_refuses(text: str) -> None:
    ms = parse_ms(text)
    if ms is not None:
        datetime.fromisoformat(text.upper())


def test_writes_milliseconds_always() -> None:
    assert format_ms(BASE_MS) == "2025-07-01T08:15:30.000Z"
    assert format_ms(BASE_MS + 7) == "2025-07-01T08:15:30.007Z"
    assert format_ms(-1) == "1969-12-31T23:59:59.999Z"
    assert format_ms(-62_135_596_800_000) == "0001-01-01T00:00:00.000Z"


def test_does_not_write_the_year_10000() -> None:
    with pytest.raises((OverflowError, ValueError)):
        format_ms(253_402_300_800_000)


@pytest.mark.parametrize("tail", ["30.123Z", "30.123z", "30.12Z", "30.1234Z", "30Z", "30+07:00", "30.1-01:00"])
@pytest.mark.parametrize("letter", "Tt")
def test_the_text_as_sent_is_used_only_where_it_is_the_usual_one(letter: str, tail: str) -> None:
    sent = f"2025-07-01{letter}08:15:{tail}"
    ms = parse_ms(sent)
    assert ms is not None
    assert text_of(ms, sent) == format_ms(ms) == text_of(ms, "")
