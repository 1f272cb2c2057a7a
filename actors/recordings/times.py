"""Times as recordings have them -> Unix ms: xsd:dateTime and what devices take for it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from actors.core.errors import RejectionCode
from actors.core.timestamps import DAY_MS, EARLIEST_MS, HOUR_MS, MINUTE_MS, parse_ms
from actors.recordings.points import LeftOut, Reason

SET_MS = EARLIEST_MS + DAY_MS
"""2000-01-02T00:00:00Z. Clocks that were never set begin in 1970, 1980, 1989 or on 2000-01-01, and GPX in 2002."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
# ISO 8601 allows a comma, an offset without its colon or minutes; devices write a blank for the T, and 7 for 07.
_FORM = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:\s*[Tt]\s*|\s+)([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,]([0-9]+))?"
    r"\s*(?:([Zz])|([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?)?"
)


def time_ms(text: str, zone: tzinfo | None, last_ms: int | None = None) -> int | Reason:
    """Unix ms, truncated, or why there is none. `zone` is for a time without one.

    Of the two moments that a time without a zone may mean where clocks are set back, the first one that is after
    `last_ms`, the point before.
    """
    stripped = text.strip()
    found: int | Reason | None = parse_ms(stripped)
    if found is None:
        found = _unusual_ms(stripped, zone, last_ms)
    return LeftOut.PLACEHOLDER if isinstance(found, int) and found < SET_MS else found


def _unusual_ms(text: str, zone: tzinfo | None, last_ms: int | None) -> int | Reason:
    if not text:
        return LeftOut.NO_TIME
    match = _FORM.fullmatch(text)
    if match is None:
        return RejectionCode.BAD_TIMESTAMP
    *digits, fraction, zulu, sign, hours, minutes = match.groups()
    year, month, day, hour, minute, second = map(int, digits)
    fraction = (fraction or "").rstrip("0")
    milli = int(fraction[:3].ljust(3, "0"))
    days = 0
    if hour == 24 and not (minute or second or fraction):  # the end of a day
        hour, days = 0, 1
    try:
        moment = datetime(year, month, day, hour, minute, second) + timedelta(days)
        if zulu or sign:
            offset = int(hours or 0) * HOUR_MS + int(minutes or 0) * MINUTE_MS
            return _unix_ms(moment.replace(tzinfo=UTC)) + milli + (offset if sign == "-" else -offset)
        if zone is None:
            return LeftOut.NO_ZONE
        first, second = (_unix_ms(moment.replace(tzinfo=zone, fold=fold)) + milli for fold in (0, 1))
    except (ValueError, OverflowError):  # no such day; in year 1 or 9999 of some zone
        return RejectionCode.BAD_TIMESTAMP
    return second if last_ms is not None and first <= last_ms < second else first


def _unix_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS
