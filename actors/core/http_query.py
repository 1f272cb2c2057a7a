"""Paths and query strings of the HTTP API -> ids and queries, or a Problem that says what is wrong."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from actors.core.cursor import decode_cursor
from actors.core.judge import normal_id
from actors.core.problem import bad_request
from actors.core.queries import HistoryQuery
from actors.core.timestamps import parse_ms

MAX_FIELDS = 100
_LIMIT = re.compile(r"[0-9]{1,9}", re.ASCII)

Parameters = Mapping[str, str]


def parameters(query_string: bytes) -> dict[str, str]:
    """Names and values, without those that are empty: `?from=&to=` asks for nothing. A name given twice is refused."""
    try:
        pairs = parse_qsl(query_string.decode("ascii"), errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:  # UnicodeDecodeError is one
        raise bad_request("the query string is not percent-encoded UTF-8, or too long") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise bad_request("a query parameter is given more than once")
    return found


def race_in_path(segment: str) -> str:
    """The race id of a path segment that is still percent-encoded.

    An id that breaks the rules for ids can have no fixes; it is refused, so that a typing error shows.
    """
    try:
        return _clean("raceId", unquote(segment, errors="strict"))
    except UnicodeDecodeError:
        raise bad_request("raceId: percent-encoded UTF-8 is needed") from None


def history_query(race_id: str, given: Parameters) -> HistoryQuery:
    """Of `/history` and `/export`, which has no limit and no cursor."""
    return HistoryQuery(
        race_id=race_id,
        participant_id=_clean("participantId", given["participantId"]) if "participantId" in given else None,
        from_ms=_moment(given, "from"),
        to_ms=_moment(given, "to"),
        limit=limit(given, default=1000, most=10_000),
        after=_cursor(given),
    )


def optional_name(given: Parameters, name: str) -> str | None:
    """Any text, in NFC: what was rejected may have been rejected for it."""
    return unicodedata.normalize("NFC", given[name]) if name in given else None


def limit(given: Parameters, *, default: int, most: int) -> int:
    """1 to `most`."""
    text = given.get("limit")
    if text is None:
        return default
    if _LIMIT.fullmatch(text) is None or not 1 <= int(text) <= most:
        raise bad_request(f"limit: an integer from 1 to {most} is needed")
    return int(text)


def _clean(name: str, text: str) -> str:
    """An id, in NFC."""
    found = normal_id(text)
    if found is None:
        raise bad_request(f"{name}: 1 to 50 letters, digits or . _ - @ are needed, the first a letter or digit")
    return found


def _moment(given: Parameters, name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    # The + of an offset means a space in a query string; RFC 3339 times have none, so what was meant is clear.
    found = parse_ms(text.replace(" ", "+"))
    if found is None:
        raise bad_request(f"{name}: a time like 2025-07-01T08:15:30Z, from 2000 on, is needed")
    return found


def _cursor(given: Parameters) -> tuple[int, bytes] | None:
    text = given.get("cursor")
    if text is None:
        return None
    try:
        return decode_cursor(text)
    except ValueError:
        raise bad_request("cursor: the nextCursor of an earlier answer is needed") from None
