"""dashboards/requests.py: one text frame -> a request or the error that answers it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.errors import ErrorCode
from actors.dashboards.requests import BadRequest, GetHistory, ListRaces, SubscribeRace, UnsubscribeRace, parse_request
from actors.history.cursor import encode_cursor
from actors.history.queries import HistoryQuery


def ask(event: object, data: object = None, **more: object) -> Any:
    frame = {"event": event, **more}
    if data is not None:
        frame["data"] = data
    return parse_request(json.dumps(frame))


def history(**data: object) -> Any:
    return ask("get_history", {"raceId": "R1", **data})


def code_of(text: str) -> ErrorCode:
    answer = parse_request(text)
    assert isinstance(answer, BadRequest)
    return answer.code


def test_every_request() -> None:
    assert ask("subscribe_race", {"raceId": "R1"}, id="a") == SubscribeRace("R1", "a")
    assert ask("unsubscribe_race", {"raceId": "R1", "more": 1}, id=-5) == UnsubscribeRace("R1", -5)
    assert ask("list_races") == ListRaces()
    assert ask("list_races", {}) == ListRaces()
    assert history() == GetHistory(HistoryQuery("R1"))


def test_ids_come_out_in_nfc() -> None:
    assert ask("subscribe_race", {"raceId": "Zu\u0308rich"}) == SubscribeRace("Zürich")
    assert history(participantId="e\u0301").query.participant_id == "é"


def test_a_history_query() -> None:
    after = (5, bytes(range(16)))
    query = history(
        participantId="P1",
        limit=10_000,
        cursor=encode_cursor(after),
        **{"from": "2025-07-01T08:15:30.123456Z", "to": "2025-07-01t10:15:30+02:00"},
    ).query
    assert query == HistoryQuery("R1", "P1", 1_751_357_730_123, 1_751_357_730_000, 10_000, after)


def test_null_is_as_good_as_absent_where_a_field_is_optional() -> None:
    assert history(participantId=None, limit=None, cursor=None, **{"from": None, "to": None}) == history()


@pytest.mark.parametrize(
    "text", ["", "x", "{", "{} {}", "NaN", "[" * 100_000, '"\\ud800"', "1" * 5000, '{"a": 1e999}', "\ud800"]
)
def test_bad_json(text: str) -> None:
    assert code_of(text) is ErrorCode.BAD_JSON


@pytest.mark.parametrize("text", ["null", "1", '"x"', "[]", "{}", '{"event": null}', '{"event": ["list_races"]}'])
def test_not_a_request(text: str) -> None:
    assert code_of(text) is ErrorCode.BAD_REQUEST


@pytest.mark.parametrize("request_id", ["", "ü" * 64, 0, -1, 10**64 - 1])
def test_good_ids(request_id: str | int) -> None:
    assert ask("list_races", id=request_id) == ListRaces(request_id)


@pytest.mark.parametrize("request_id", [None, True, 1.5, "x" * 65, [], {}, 10**64, -(10**64)])
def test_bad_ids(request_id: object) -> None:
    answer = ask("list_races", id=request_id)
    assert (answer.code, answer.request_id) == (ErrorCode.BAD_REQUEST, None)


def test_unknown_events_are_named_with_what_is_known() -> None:
    answer = ask("subscribe", id=1)
    assert (answer.code, answer.request_id) == (ErrorCode.UNKNOWN_EVENT, 1)
    assert "subscribe_race" in answer.message
    assert len(ask("x" * 1000).message) < 200


@pytest.mark.parametrize("data", [[], "x", 1, False])
def test_data_is_an_object(data: object) -> None:
    assert ask("list_races", data, id=1) == BadRequest(ErrorCode.BAD_REQUEST, "data: an object is needed", 1)


@pytest.mark.parametrize("race_id", [None, 7, "", "a/b", "-a", "R" * 51, "R" * 10_000, "a\u200fb", ["R1"]])
@pytest.mark.parametrize("event", ["subscribe_race", "unsubscribe_race", "get_history"])
def test_bad_race_ids(event: str, race_id: object) -> None:
    answer = ask(event, {"raceId": race_id}, id=1)
    assert (answer.code, answer.request_id) == (ErrorCode.BAD_REQUEST, 1)
    assert answer.message.startswith("raceId:")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("participantId", 7),
        ("participantId", ""),
        ("from", 1_751_357_730_000),
        ("from", "2025-07-01"),
        ("to", "yesterday"),
        ("limit", 0),
        ("limit", 10_001),
        ("limit", True),
        ("limit", 1.0),
        ("limit", "5"),
        ("cursor", 5),
        ("cursor", "not one of ours"),
    ],
)
def test_bad_history_queries(name: str, value: object) -> None:
    answer = history(**{name: value})
    assert answer.code is ErrorCode.BAD_REQUEST
    assert answer.message.startswith(f"{name}:")


@settings(deadline=None)  # machines are busy
@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_never_raises(text: str) -> None:
    assert parse_request(text) is not None
