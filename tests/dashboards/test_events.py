"""dashboards/events.py: the JSON of http/asyncapi.json and the frames of RFC 6455."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.fix import STATUSES, Fix
from actors.core.position import position_json, quoted
from actors.dashboards import events as wire
from actors.dashboards.frames import Frame, Shared
from actors.history.answers import history_data
from tests.kit.websocket import text_of

ARRIVED_MS = 1_751_357_730_512


def fix(
    race_id: str = "R2025-07",
    participant_id: str = "P001",
    status: int = 0,
    lat_e7: int = -79_456_000,
    lon_e7: int = 1_126_145_000,
) -> Fix:
    return Fix(race_id, participant_id, lat_e7, lon_e7, 1_751_357_730_000, status, ARRIVED_MS, bytes(16))


def test_the_position_of_the_contract() -> None:
    assert json.loads(position_json(fix(), stale=False)) == {
        "participantId": "P001",
        "raceId": "R2025-07",
        "latitude": -7.9456,
        "longitude": 112.6145,
        "timestamp": "2025-07-01T08:15:30.000Z",
        "receivedAt": "2025-07-01T08:15:30.512Z",
        "status": "moving",
        "stale": False,
    }


def test_keys_come_in_the_order_of_the_contract() -> None:
    assert list(json.loads(position_json(fix(), stale=True))) == [
        "participantId",
        "raceId",
        "latitude",
        "longitude",
        "timestamp",
        "receivedAt",
        "status",
        "stale",
    ]


def test_a_position_for_redis_has_no_stale() -> None:
    position = json.loads(position_json(fix(), stale=None))
    assert list(position)[-1] == "status"


@settings(deadline=None)  # machines are busy
@given(
    race_id=st.text(max_size=50),
    participant_id=st.text(max_size=50),
    lat_e7=st.integers(-900_000_000, 900_000_000),
    lon_e7=st.integers(-1_800_000_000, 1_800_000_000),
    status=st.integers(0, 3),
    stale=st.sampled_from([None, True, False]),
)
def test_every_fix_survives_the_way_through_json(
    race_id: str, participant_id: str, lat_e7: int, lon_e7: int, status: int, stale: bool | None
) -> None:
    sent = fix(race_id, participant_id, status, lat_e7=lat_e7, lon_e7=lon_e7)
    position = json.loads(position_json(sent, stale))
    assert (position["raceId"], position["participantId"]) == (race_id, participant_id)
    assert round(position["latitude"] * 1e7) == lat_e7
    assert round(position["longitude"] * 1e7) == lon_e7
    assert position["status"] == STATUSES[status]
    assert position.get("stale") is stale


def test_events_wrap_positions_without_encoding_them_again() -> None:
    one, two = position_json(fix(), stale=False), position_json(fix(participant_id="P2"), stale=False)
    assert json.loads(wire.update_event(one)) == {"event": "position_update", "data": json.loads(one)}
    assert json.loads(wire.batch_event('R"1', [one, two])) == {
        "event": "batch_position_update",
        "data": {"raceId": 'R"1', "positions": [json.loads(one), json.loads(two)]},
    }


def test_a_snapshot_answers_a_request() -> None:
    one = position_json(fix(), stale=False)
    frame = Frame(*wire.snapshot_event("R1", [Shared(one + b"," + one)], ARRIVED_MS, request_id="a"))
    assert json.loads(text_of(frame.plain)) == {
        "event": "race_snapshot",
        "data": {"raceId": "R1", "positions": [json.loads(one)] * 2, "serverTime": "2025-07-01T08:15:30.512Z"},
        "id": "a",
    }


def test_an_empty_snapshot_as_resync() -> None:
    frame = Frame(*wire.snapshot_event("R1", (), 0, resync=True))
    assert json.loads(text_of(frame.plain)) == {
        "event": "race_snapshot",
        "data": {"raceId": "R1", "positions": [], "serverTime": "1970-01-01T00:00:00.000Z", "resync": True},
    }


def test_stale_and_error_and_reply() -> None:
    assert json.loads(wire.stale_event("R1", "P1", ARRIVED_MS)) == {
        "event": "participant_stale",
        "data": {"raceId": "R1", "participantId": "P1", "lastTimestamp": "2025-07-01T08:15:30.512Z"},
    }
    assert json.loads(wire.error_event("bad_json", "no", 7)) == {
        "event": "error",
        "data": {"code": "bad_json", "message": "no"},
        "id": 7,
    }
    assert json.loads(wire.reply("race_unsubscribed", {"raceId": "R1"})) == {
        "event": "race_unsubscribed",
        "data": {"raceId": "R1"},
    }


@pytest.mark.parametrize("request_id", ["", "ü" * 64, 0, -1, 2**63, 10**64 - 1])
def test_request_ids_come_back_as_they_were(request_id: str | int) -> None:
    assert json.loads(wire.reply("races", {}, request_id))["id"] == request_id


def test_history_data() -> None:
    one = position_json(fix(), stale=False)
    assert json.loads(history_data(iter([one, one]), "c")) == {
        "positions": [json.loads(one)] * 2,
        "nextCursor": "c",
    }
    assert json.loads(wire.reply("history", history_data([], None), "x")) == {
        "event": "history",
        "data": {"positions": [], "nextCursor": None},
        "id": "x",
    }


@settings(deadline=None)  # machines are busy
@given(st.text())
def test_quoted_is_json(text: str) -> None:
    assert json.loads(quoted(text)) == text
    assert msgspec.json.decode(quoted(text)) == text
