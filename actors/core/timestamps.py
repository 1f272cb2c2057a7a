"""Moments as text and as Unix ms: a strict RFC 3339 form in, cut to the ms; one canonical form out."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TypeAlias

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

EARLIEST_MS = 946_684_800_000
"""2000-01-01T00:00:00Z: what is older comes from a tracker whose clock was never set."""

LATEST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z: the last one that can be written."""

LONGEST = 35
"""Characters of the longest form, 2025-07-01T08:15:30.123456789+00:00."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_HEAD = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([01][0-9]|2[0-3]):([0-5][0-9]):", re.ASCII)
# The offset's hours and minutes are limited as those of a time (RFC 3339, time-numoffset). A fraction needs a digit.
_TAIL = re.compile(r"([0-5][0-9])(?:\.([0-9]{1,9}))?(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))", re.ASCII)

# The two usual forms, 30Z and 30.123Z, are one or two look-ups instead of two regexes: a quarter of the time.
_SECONDS = {f"{second:02d}.": second * 1000 for second in range(60)}
_MILLIS = {f"{milli:03d}": milli for milli in range(1000)}
_SECOND_TEXTS = [f"{second:02d}." for second in range(60)]
_MILLI_TEXTS = [f"{milli:03d}Z" for milli in range(1000)]


def parse_ms(text: str) -> int | None:
    """Unix ms, truncated, of `YYYY-MM-DDThh:mm:ss[.fraction](Z or ±hh:mm)`; None for every other text.

    Also None for dates that do not exist, second 60, and moments before 2000-01-01 UTC.
    """
    length = len(text)
    if length == 24 and text[23] == "Z":
        second, milli = _second_ms(text[:20]), _MILLIS.get(text[20:23])
        if second is not None and milli is not None:
            return second + milli
    elif length == 20 and text[19] == "Z":
        second = _second_ms(text[:19] + ".")
        if second is not None:
            return second
    if length > LONGEST:
        return None
    minute, rest = _minute_ms(text[:17]), _tail_ms(text[17:])
    if minute is None or rest is None:
        return None
    moment = minute + rest
    return moment if moment >= EARLIEST_MS else None


@lru_cache(maxsize=4096)  # keys of 20 characters; a race moves through one at a time
def _second_ms(head: str) -> int | None:
    """Unix ms of the second that `YYYY-MM-DDThh:mm:ss.` names, taken as UTC; None when there is none from
    EARLIEST_MS on."""
    minute, second = _minute_ms(head[:17]), _SECONDS.get(head[17:])
    if minute is None or second is None or minute < EARLIEST_MS:
        return None
    return minute + second


@lru_cache(maxsize=4096)  # keys of at most 17 characters
def _minute_ms(head: str) -> int | None:
    """Unix ms of the minute that `YYYY-MM-DDThh:mm:` names, taken as UTC; None when there is no such minute."""
    match = _HEAD.fullmatch(head)
    if match is None:
        return None
    try:
        days = date(int(match[1]), int(match[2]), int(match[3])).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    return days * DAY_MS + int(match[4]) * HOUR_MS + int(match[5]) * MINUTE_MS


def _tail_ms(tail: str) -> int | None:
    """What `ss[.fraction](Z or ±hh:mm)` adds to its minute to come to UTC; an offset east of Greenwich subtracts."""
    match = _TAIL.fullmatch(tail)
    if match is None:
        return None
    second, fraction, sign, hours, minutes = match.groups()
    rest = int(second) * 1000
    if fraction is not None:
        rest += int(fraction[:3].ljust(3, "0"))
    if sign is not None:
        offset = int(hours) * HOUR_MS + int(minutes) * MINUTE_MS
        rest += offset if sign == "-" else -offset
    return rest


def format_ms(ms: int) -> str:
    """`2025-07-01T08:15:30.000Z`. Raises OverflowError or ValueError outside of the years 1 to 9999."""
    rest = ms % MINUTE_MS
    return _minute_text(ms // MINUTE_MS) + _SECOND_TEXTS[rest // 1000] + _MILLI_TEXTS[rest % 1000]


def text_of(ms: int, sent: str) -> str:
    """`format_ms(ms)`, which `sent` usually is already: the text that `parse_ms` made `ms` of, or empty."""
    if len(sent) == 24 and sent[10] == "T" and sent[23] == "Z":
        return sent
    return format_ms(ms)


@lru_cache(maxsize=4096)  # by the minute: a track of days still fits
def _minute_text(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).isoformat()[:17]


Clock: TypeAlias = Callable[[], int]
"""The wall clock in Unix ms."""
