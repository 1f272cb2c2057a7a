"""The AsyncAPI description agrees with what the server takes and sends; tests of live servers check each frame."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft7Validator, Draft202012Validator, ValidationError

from actors.core.errors import ErrorCode
from actors.core.fix import STATUSES
from actors.core.position import position_json
from actors.dashboards import events as wire
from actors.dashboards import requests
from actors.dashboards.frames import Frame, Shared
from actors.dashboards.rate import FLOOD_S
from actors.dashboards.requests import BadRequest, parse_request
from actors.history.answers import history_data
from actors.history.cursor import encode_cursor
from actors.http.documents import asyncapi
from actors.http.head import SUBPROTOCOL
from actors.settings.load import WsSettings
from tests.kit.described import check_frame, resolved, validator
from tests.kit.making import BASE_MS, make_fix
from tests.kit.websocket import text_of

DOCUMENT = asyncapi("/tracking")
CHANNEL = DOCUMENT["channels"]["tracking"]
MESSAGES = DOCUMENT["components"]["messages"]
REQUESTS = [resolved(DOCUMENT, message)["name"] for operation in DOCUMENT["operations"].values()
            if operation["action"] == "receive" for message in operation["messages"]]  # fmt: skip
SPECS = Path(__file__).parents[2] / "node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"

POSITION = position_json(make_fix(), stale=False)
FRAMES = [
    wire.update_event(POSITION),
    wire.update_event(position_json(make_fix("Zoë", lat=90, lon=-180, status=3), stale=True)),
    wire.batch_event("R1", [POSITION, POSITION]),
    text_of(Frame(*wire.snapshot_event("R1", (), BASE_MS)).plain),
    text_of(Frame(*wire.snapshot_event("R1", [Shared(POSITION)], BASE_MS, "x" * 64, resync=True)).plain),
    wire.stale_event("R1", "P1", BASE_MS),
    wire.reply("race_unsubscribed", {"raceId": "R1"}, 7),
    wire.reply("races", {"races": [{"raceId": "R1", "participants": 2, "lastTimestamp": "2025-07-01T08:15:30.000Z"}]}),
    wire.reply("history", history_data([POSITION], encode_cursor((BASE_MS * 1000, bytes(16)))), -1),
    wire.reply("history", history_data([], None)),
    *(wire.error_event(code, "why", "id") for code in ErrorCode),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame[10:40])
def test_a_frame_is_as_described(frame: bytes) -> None:
    check_frame(frame)
    changed = json.loads(frame)
    changed["data"]["colour"] = "red"
    with pytest.raises(ValidationError):
        check_frame(json.dumps(changed))
    for member in json.loads(frame)["data"]:
        if member != "resync":
            less = json.loads(frame)
            del less["data"][member]
            with pytest.raises(ValidationError):
                check_frame(json.dumps(less))


def test_every_message_is_one_of_these() -> None:
    assert set(requests._REQUESTS) == set(REQUESTS)
    sent = {json.loads(frame)["event"] for frame in FRAMES}
    assert sent | set(REQUESTS) == set(MESSAGES) == set(CHANNEL["messages"])
    source = "".join(path.read_text() for path in (Path(__file__).parents[2] / "actors").rglob("*.py"))
    events = set(re.findall(r'"event":"(\w+)"', source)) | set(re.findall(r'reply\w*\(\s*"(\w+)"', source)) | {"error"}
    assert events == sent, "an event that is sent somewhere, and not here"


def test_codes_and_numbers_are_those_of_the_code() -> None:
    schemas, ws = DOCUMENT["components"]["schemas"], WsSettings()
    assert schemas["ErrorCode"]["enum"] == list(ErrorCode)
    assert schemas["Status"]["enum"] == list(STATUSES)
    assert schemas["RequestId"]["anyOf"][0]["maxLength"] == requests.MAX_ID_CHARACTERS
    closes = " ".join(CHANNEL["x-closes"].values())
    for number in (ws.max_requests_per_s, ws.max_message_bytes, ws.send_timeout_ms, ws.heartbeat_s, int(FLOOD_S)):
        assert f"{number}" in closes
    assert CHANNEL["title"] == SUBPROTOCOL


def test_its_shape_is_that_of_asyncapi_3() -> None:
    """The rules that matter; the whole schema where npm has brought it."""
    assert set(DOCUMENT) == {"asyncapi", "info", "defaultContentType", "channels", "operations", "components"}
    assert DOCUMENT["asyncapi"] == "3.0.0"
    for reference in re.findall(r'"\$ref": "(.+?)"', json.dumps(DOCUMENT)):
        assert resolved(DOCUMENT, {"$ref": reference})
    for operation in DOCUMENT["operations"].values():
        for part in (operation, operation.get("reply", operation)):
            assert part["channel"] == {"$ref": "#/channels/tracking"}
            for message in part["messages"]:  # a subset of the channel's messages, by reference into the channel
                assert message["$ref"].rpartition("/")[0] == "#/channels/tracking/messages"


@pytest.mark.skipif(not SPECS.exists(), reason="npm install --no-save @asyncapi/specs")
def test_it_is_valid_asyncapi() -> None:
    official = Draft7Validator(json.loads(SPECS.read_text()))
    assert [str(error) for error in official.iter_errors(DOCUMENT)] == []
    assert not official.is_valid({**DOCUMENT, "operations": {"changes": {"action": "shout"}}})


VALUES: st.SearchStrategy[Any] = st.sampled_from([
    None, True, 0, 1, 10_000, 10_001, 1.5, "", "R1", "-", "a b", "x" * 50, "x" * 51, "Zoë", [], {},
    "2025-07-01T08:15:30Z", "2025-02-29T08:15:30Z", "2025-07-01", encode_cursor((BASE_MS * 1000, bytes(16))), "x" * 64,
    "x" * 65, 10**9, -1,
])  # fmt: skip
DESCRIBED = {
    name: Draft202012Validator({**MESSAGES[name]["payload"], "components": DOCUMENT["components"]}) for name in REQUESTS
}
MEMBERS = st.sampled_from(["raceId", "participantId", "from", "to", "limit", "cursor", "more"])
DATA = st.dictionaries(MEMBERS, VALUES, max_size=2).flatmap(
    lambda some: st.sampled_from([some, {"raceId": "R1"} | some])
)


@settings(max_examples=500)
@given(st.sampled_from(REQUESTS), DATA, st.none() | VALUES, st.sampled_from([False] * 9 + [True]))
def test_a_request_is_taken_when_it_is_as_described(event: str, data: dict[str, Any], id_: object, bare: bool) -> None:
    request: dict[str, Any] = {
        "event": event,
        **({} if bare else {"data": data}),
        **({} if id_ is None else {"id": id_}),
    }
    described = DESCRIBED[event].is_valid(request)
    assert described == (not isinstance(parse_request(json.dumps(request)), BadRequest))


def test_validators_are_those_of_the_document() -> None:
    assert validator("subscribe_race").is_valid({"event": "subscribe_race", "data": {"raceId": "R1"}, "id": 1})
    assert not validator("subscribe_race").is_valid({"event": "subscribe_race", "data": {}})
