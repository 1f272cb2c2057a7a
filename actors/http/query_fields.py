"""What a client asks of history, by WebSocket or HTTP: values of any JSON type -> what they mean, or a Problem."""

from __future__ import annotations

from collections.abc import Mapping

from actors.core.ids import ID_RULE, normal_id
from actors.core.timestamps import parse_ms
from actors.history.cursor import decode_cursor
from actors.history.queries import HistoryQuery
from actors.http.problem import bad_request

MAX_LIMIT = 10_000  # rows in one answer
DEFAULT_LIMIT = 1_000


def history_query(given: Mapping[str, object]) -> HistoryQuery:
    """One page. A member that is None is as good as absent."""
    return HistoryQuery(
        race_id=an_id(given, "raceId"),
        participant_id=None if given.get("participantId") is None else an_id(given, "participantId"),
        from_ms=_moment(given, "from"),
        to_ms=_moment(given, "to"),
        limit=limit(given, DEFAULT_LIMIT),
        after=_cursor(given),
    )


def an_id(given: Mapping[str, object], name: str) -> str:
    """In NFC. One that breaks the rules can have no fixes; it is refused, so that a typing error shows."""
    value = given.get(name)
    found = normal_id(value) if isinstance(value, str) else None
    if found is None:
        raise bad_request(f"{name}: allowed are {ID_RULE}")
    return found


def limit(given: Mapping[str, object], default: int) -> int:
    """1 to MAX_LIMIT."""
    value = given.get("limit")
    if value is None:
        return default
    # bool is an int to Python, not to JSON.
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LIMIT:
        raise bad_request(f"limit: an integer from 1 to {MAX_LIMIT} is needed")
    return value


def _moment(given: Mapping[str, object], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    found = parse_ms(value) if isinstance(value, str) else None
    if found is None:
        raise bad_request(f"{name}: a time like 2025-07-01T08:15:30Z, from 2000 on, is needed")
    return found


def _cursor(given: Mapping[str, object]) -> tuple[int, bytes] | None:
    value = given.get("cursor")
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return decode_cursor(value)
    except ValueError:
        pass  # said below
    raise bad_request("cursor: the nextCursor of an earlier answer is needed")
