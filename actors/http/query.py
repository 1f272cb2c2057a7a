"""Paths and query strings of the HTTP API -> values, or a Problem that says what is wrong."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from actors.http.problem import bad_request
from actors.http.query_fields import an_id

MAX_FIELDS = 100
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)

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
    """The race id of a path segment that is still percent-encoded."""
    try:
        return an_id({"raceId": unquote(segment, errors="strict")}, "raceId")
    except UnicodeDecodeError:
        raise bad_request("raceId: percent-encoded UTF-8 is needed") from None


def typed(given: Parameters) -> dict[str, object]:
    """The values as JSON would have them: a query string knows only text."""
    found: dict[str, object] = dict(given)
    for name in {"from", "to"} & given.keys():
        # The + of an offset means a space in a query string; RFC 3339 times have none, so what was meant is clear.
        found[name] = given[name].replace(" ", "+")
    if _NUMBER.fullmatch(given.get("limit", "")):
        found["limit"] = int(given["limit"])
    return found


def optional_name(given: Parameters, name: str) -> str | None:
    """Any text, in NFC: what was rejected may have been rejected for it."""
    return unicodedata.normalize("NFC", given[name]) if name in given else None
