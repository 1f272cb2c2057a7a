"""The cursor of `get_history` as text: opaque to dashboards, safe in a URL."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from struct import Struct

_FORM = Struct(">q16s")  # µs since 1970 of the last fix seen, its id
LENGTH = 32  # characters: 24 bytes need no padding
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999  # the years 1 to 9999


def encode_cursor(position: tuple[int, bytes]) -> str:
    """32 characters of `A-Za-z0-9_-` from a HistoryPage's `next`."""
    return urlsafe_b64encode(_FORM.pack(*position)).decode()


def decode_cursor(text: str) -> tuple[int, bytes]:
    """The other way. Raises ValueError for every text that `encode_cursor` does not make."""
    if len(text) == LENGTH and text.isascii():
        data = urlsafe_b64decode(text)
        if urlsafe_b64encode(data).decode() == text:
            moment, fix = _FORM.unpack(data)
            if EARLIEST_US <= moment <= LATEST_US:
                return int(moment), bytes(fix)
    raise ValueError("not a cursor of this server")
