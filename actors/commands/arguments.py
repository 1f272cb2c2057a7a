"""Types of arguments that several commands take, for argparse."""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections.abc import Callable
from zoneinfo import ZoneInfo

from actors.core.file_name import as_text
from actors.core.ids import ID_RULE, normal_id
from actors.core.timestamps import HOUR_MS, MINUTE_MS

MAX_SHIFT_MS = 100 * 366 * 24 * HOUR_MS

_SECONDS = re.compile(r"[+-]?[0-9]{1,10}(?:\.[0-9]{1,3})?", re.ASCII)
_HOURS = re.compile(r"([+-]?)([0-9]{1,2}):([0-5][0-9])", re.ASCII)


def _id(what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        found = normal_id(as_text(text))
        if found is None:
            raise argparse.ArgumentTypeError(f"'{text}' is not a {what} id: {ID_RULE}")
        return found

    return parse


race_id = _id("race")
"""As it is written inside; a typing error would name a race that cannot be."""
participant_id = _id("participant")


def any_name(text: str) -> str:
    """Of something that may have been rejected for it; in NFC, as everything inside is compared."""
    return unicodedata.normalize("NFC", as_text(text))


def time_zone(text: str) -> ZoneInfo:
    """Of the system's time zone database."""
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # unknown; not a relative path; a folder of zones
        raise argparse.ArgumentTypeError(f"'{text}' is not a time zone such as Europe/Berlin") from None


def shift_ms(text: str) -> int:
    """Milliseconds, of seconds or ±HH:MM."""
    hours = _HOURS.fullmatch(text)
    if hours is not None:
        found = int(hours[2]) * HOUR_MS + int(hours[3]) * MINUTE_MS
        return -found if hours[1] == "-" else found
    found = round(float(text) * 1000) if _SECONDS.fullmatch(text) else MAX_SHIFT_MS + 1
    if abs(found) > MAX_SHIFT_MS:
        raise argparse.ArgumentTypeError(f"'{text}': allowed are seconds, or hours and minutes as -08:00")
    return found
