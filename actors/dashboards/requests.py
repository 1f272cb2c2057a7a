"""What a dashboard may ask (http/asyncapi.json): one text frame -> a request, or the error to answer with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import msgspec

from actors.core.errors import ErrorCode
from actors.dashboards.events import RequestId
from actors.history.queries import HistoryQuery
from actors.http.problem import Problem
from actors.http.query_fields import an_id, history_query

MAX_ID_CHARACTERS = 64
MAX_ID_INTEGER = 10**MAX_ID_CHARACTERS  # exclusive, either sign


@attrs.frozen
class SubscribeRace:
    """A snapshot, then every later change."""

    race_id: str
    request_id: RequestId = None


@attrs.frozen
class UnsubscribeRace:
    """No more of this race."""

    race_id: str
    request_id: RequestId = None


@attrs.frozen
class ListRaces:
    """All races in history that the token may see."""

    request_id: RequestId = None


@attrs.frozen
class GetHistory:
    """One page of a race's history."""

    query: HistoryQuery
    request_id: RequestId = None


@attrs.frozen
class BadRequest:
    """Answer with an `error`; the connection stays."""

    code: ErrorCode
    message: str
    request_id: RequestId = None


Request: TypeAlias = SubscribeRace | UnsubscribeRace | ListRaces | GetHistory


_decoder = msgspec.json.Decoder()


def parse_request(text: str) -> Request | BadRequest:
    """Judge one text frame. Never raises. Members that are not known are ignored."""
    try:
        frame = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
        return BadRequest(ErrorCode.BAD_JSON, f"not JSON: {error}")
    if not isinstance(frame, dict):
        return BadRequest(ErrorCode.BAD_REQUEST, 'a request is an object {"event": ..., "data": {...}}')
    request_id = frame.get("id")
    if "id" in frame and not _is_request_id(request_id):
        return BadRequest(
            ErrorCode.BAD_REQUEST, f"id: a string of at most {MAX_ID_CHARACTERS} characters or an integer"
        )
    event = frame.get("event")
    if not isinstance(event, str):
        return BadRequest(ErrorCode.BAD_REQUEST, "event: a string is needed", request_id)
    build = _REQUESTS.get(event)
    if build is None:
        known = ", ".join(_REQUESTS)
        return BadRequest(ErrorCode.UNKNOWN_EVENT, f"{event[:50]!r} is not one of {known}", request_id)
    data = frame.get("data", {})
    if not isinstance(data, dict):
        return BadRequest(ErrorCode.BAD_REQUEST, "data: an object is needed", request_id)
    try:
        return build(data, request_id)
    except Problem as wrong:
        return BadRequest(ErrorCode.BAD_REQUEST, wrong.message, request_id)


def _is_request_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_ID_CHARACTERS
    # bool is an int to Python, not to JSON.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_ID_INTEGER


_REQUESTS: dict[str, Callable[[dict[str, Any], RequestId], Request]] = {
    "subscribe_race": lambda data, request_id: SubscribeRace(an_id(data, "raceId"), request_id),
    "unsubscribe_race": lambda data, request_id: UnsubscribeRace(an_id(data, "raceId"), request_id),
    "list_races": lambda _data, request_id: ListRaces(request_id),
    "get_history": lambda data, request_id: GetHistory(history_query(data), request_id),
}
