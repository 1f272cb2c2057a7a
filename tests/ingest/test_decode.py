"""Payloads that become fixes; what is rejected is in test_decode_rejections.py."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.fix import STATUSES, Fix, to_e7
from actors.core.identity import fix_id, rejection_id
from actors.core.rejection import payload_of, poison, poison_message
from actors.ingest.decode import decode, quick
from actors.ingest.validate import Rules, validate

NOW_MS = 1_751_357_731_500
TOPIC = b"tracking/P001/position"
RULES = Rules(max_payload_bytes=262_144, topics=("tracking/+/position",))
EXAMPLE: dict[str, Any] = {
    "participant_id": "P001",
    "race_id": "R2025-07",
    "latitude": -7.9456,
    "longitude": 112.6145,
    "timestamp": "2025-07-01T08:15:30Z",
    "status": "moving",
}


def encoded(**changes: object) -> bytes:
    return json.dumps(EXAMPLE | changes).encode()


def taken(payload: bytes, topic: bytes = TOPIC, rules: Rules = RULES) -> list[Fix]:
    """Decoded by both ways, nothing rejected."""
    fixes, rejections = decode(topic, payload, NOW_MS, rules)
    assert rejections == []
    assert validate(topic, payload, NOW_MS, rules) == (fixes, [])
    return fixes


def test_the_example() -> None:
    (fix,) = taken(encoded())
    assert fix == Fix(
        race_id="R2025-07",
        participant_id="P001",
        lat_e7=-79_456_000,
        lon_e7=1_126_145_000,
        timestamp_ms=1_751_357_730_000,
        status=0,
        arrived_ms=NOW_MS,
        id=UUID("0197c50e-2cd0-8308-91bb-9f03721812bf").bytes,
        sent_timestamp="2025-07-01T08:15:30Z",
    )
    assert fix.rank == (1_751_357_730_000, 0, fix.id)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"status": status}, "status", index) for index, status in enumerate(STATUSES)
    ]
    + [
        ({"participant_id": "a"}, "participant_id", "a"),
        ({"participant_id": "7"}, "participant_id", "7"),
        ({"participant_id": "x" * 50}, "participant_id", "x" * 50),
        ({"participant_id": "A.b_c-d@e"}, "participant_id", "A.b_c-d@e"),
        ({"participant_id": "Zoë"}, "participant_id", "Zoë"),
        ({"participant_id": "Zoe\u0308"}, "participant_id", "Zoë"),
        ({"participant_id": "e\u0301" * 50}, "participant_id", "é" * 50),
        ({"participant_id": "\u03b1\u0313\u0300\u0345" * 50}, "participant_id", "\u1f82" * 50),
        ({"race_id": "マラソン2025"}, "race_id", "マラソン2025"),
        ({"race_id": "٢٠٢٥"}, "race_id", "٢٠٢٥"),
        ({"race_id": "हिन्दी"}, "race_id", "हिन्दी"),
        ({"race_id": "\U0001d518ltra"}, "race_id", "\U0001d518ltra"),
        ({"latitude": 90}, "lat_e7", 900_000_000),
        ({"latitude": -90.0}, "lat_e7", -900_000_000),
        ({"longitude": 180}, "lon_e7", 1_800_000_000),
        ({"longitude": -180}, "lon_e7", -1_800_000_000),
        ({"latitude": 0}, "lat_e7", 0),
        ({"latitude": -0.0}, "lat_e7", 0),
        ({"latitude": 0.0, "longitude": 5e-8}, "lon_e7", 1),
        ({"latitude": -6e-8, "longitude": 1e-9}, "lat_e7", -1),
        ({"latitude": 1.00000005}, "lat_e7", 10_000_001),
        ({"latitude": -1.00000005}, "lat_e7", -10_000_001),
        ({"latitude": -0.00000004}, "lat_e7", 0),
        ({"timestamp": "2025-07-01T08:15:30.123456789Z"}, "timestamp_ms", 1_751_357_730_123),
        ({"timestamp": "2025-07-02T08:15:31.500Z"}, "timestamp_ms", NOW_MS + 86_400_000),
        ({"timestamp": "2025-07-01T10:15:30+02:00"}, "sent_timestamp", "2025-07-01T10:15:30+02:00"),
        ({"timestamp": "2000-01-01T00:00:00Z"}, "timestamp_ms", 946_684_800_000),
        ({"battery": 80, "extra": {"deep": [1, [2, {"x": None}]]}}, "status", 0),
        ({"battery": True, "Latitude": "x", "": None}, "lat_e7", -79_456_000),
    ],
)  # fmt: skip
def test_takes(changes: dict[str, object], field: str, value: object) -> None:
    (fix,) = taken(encoded(**changes))
    assert getattr(fix, field) == value


def test_an_absent_status_is_moving() -> None:
    (fix,) = taken(json.dumps({key: EXAMPLE[key] for key in EXAMPLE if key != "status"}).encode())
    assert fix.status == 0


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000, "0." + "1" * 5000, "1e-9999", "1E400000000000000"])
def test_numbers_of_any_size_do_not_matter_where_they_are_ignored(number: str) -> None:
    (fix,) = taken(encoded().replace(b"{", b'{"odometer": %s, "more": [%s],' % (number.encode(), number.encode()), 1))
    assert fix.lat_e7 == -79_456_000


@pytest.mark.parametrize(
    ("number", "e7"),
    [("1E1", 100_000_000), ("0.5e+1", 50_000_000), ("45" + ".0" + "0" * 5000 + "1", 450_000_000), ("1e-400", 0)],
)
def test_numbers_as_json_writes_them(number: str, e7: int) -> None:
    (fix,) = taken(encoded(latitude=12345).replace(b"12345", number.encode()))
    assert fix.lat_e7 == e7


def test_of_duplicate_keys_the_last_wins() -> None:
    one = encoded()
    (fix,) = taken(one.replace(b"{", b'{"latitude": "north", "status": null, "race_id": 7,', 1))
    assert fix == taken(one)[0]
    (fix,) = taken(one.replace(b"}", b', "latitude": 5}'))
    assert fix.lat_e7 == 50_000_000
    (fix,) = taken(one.replace(b"}", b', "l\\u0061titude": 6}'))
    assert fix.lat_e7 == 60_000_000


def test_escapes_are_what_they_stand_for() -> None:
    (fix,) = taken(encoded().replace(b"P001", rb"\u0050\u00e9\ud835\udd18"))
    assert fix.participant_id == "P\u00e9\U0001d518"
    assert len(taken(encoded(note="\U0001f3c3 and \\ud800 as text"))) == 1


def test_an_array_is_taken_in_order() -> None:
    payload = b" [%b , %b,\n%b] " % (encoded(latitude=1), encoded(latitude=2), encoded(latitude=3))
    assert [fix.lat_e7 for fix in taken(payload)] == [10_000_000, 20_000_000, 30_000_000]


def test_an_empty_array_is_nothing() -> None:
    assert taken(b"[]") == []
    assert taken(b" [ ] ") == []


def test_a_thousand_elements_are_allowed() -> None:
    assert len(taken(b"[" + b",".join([encoded()] * 1000) + b"]")) == 1000


def test_exactly_max_payload_bytes_are_allowed() -> None:
    payload = encoded()
    assert len(taken(payload, rules=Rules(max_payload_bytes=len(payload)))) == 1


def test_the_same_fix_has_the_same_id_whatever_its_form() -> None:
    spaced = json.dumps(dict(reversed(EXAMPLE.items())), indent=3).encode()
    other = encoded(latitude=-7.94560000001, timestamp="2025-07-01T10:15:30.0004+02:00", speed=3)
    assert {fix.id for payload in (encoded(), spaced, other) for fix in taken(payload)} == {taken(encoded())[0].id}


def test_the_same_second_elsewhere_is_another_fix() -> None:
    assert taken(encoded())[0].id != taken(encoded(latitude=-7.9456001))[0].id


IDENTITIES = [
    ("participant_id", ("tracking/+/position",), b"tracking/P001/position"),
    ("race_id", ("races/+/of/+",), b"races/R2025-07/of/anybody"),
    ("participant_id", ("a/+/b", "x/+/#"), b"x/P001/y/z"),
    ("participant_id", ("x/+/#",), b"x/P001"),
    ("participant_id", ("+/#",), b"P001"),
    ("participant_id", ("no/plus", "+",), b"P001"),
    ("participant_id", ("ma+th.s/+",), b"ma+th.s/P001"),
]  # fmt: skip


@pytest.mark.parametrize(("identity", "topics", "topic"), IDENTITIES)
def test_the_topic_agrees(identity: str, topics: tuple[str, ...], topic: bytes) -> None:
    rules = Rules(max_payload_bytes=10_000, topic_identity=identity, topics=topics)
    assert len(taken(encoded(), topic, rules)) == 1


def test_the_topic_is_compared_in_nfc() -> None:
    rules = Rules(max_payload_bytes=10_000, topic_identity="participant_id", topics=("t/+",))
    for level in ("Zoë", "Zoe\u0308"):
        for name in ("Zoë", "Zoe\u0308"):
            assert len(taken(encoded(participant_id=name), f"t/{level}".encode(), rules)) == 1


def test_poison_is_the_fix_as_it_could_be_sent_again() -> None:
    (fix,) = taken(encoded(timestamp="2025-07-01T10:15:30.5+02:00"))
    row = poison(fix, "tracking/P001/position")
    assert json.loads(row.payload) == EXAMPLE | {"timestamp": "2025-07-01T08:15:30.500Z"}
    assert (row.code, row.topic, row.received_ms) == ("poison", "tracking/P001/position", NOW_MS)
    assert (row.participant_id, row.race_id) == ("P001", "R2025-07")
    assert row.sent_timestamp == "2025-07-01T10:15:30.5+02:00"
    assert row.id == rejection_id(TOPIC, row.payload, 0, "poison")
    assert row == poison(fix, "tracking/P001/position")


def test_poison_that_was_read_back_from_a_store_has_a_timestamp() -> None:
    fix = Fix("R1", "P1", 1, 2, 1_751_357_730_000, 2, NOW_MS, bytes(16))
    assert poison(fix, "").sent_timestamp == "2025-07-01T08:15:30.000Z"


def test_a_poisoned_message_keeps_its_first_bytes() -> None:
    row = poison_message(TOPIC, b"x" * 5000, NOW_MS)
    assert (row.code, row.payload, row.received_ms) == ("poison", b"x" * 4096, NOW_MS)
    assert row.id == rejection_id(TOPIC, b"x" * 5000, 0, "poison")
    assert (row.participant_id, row.race_id, row.sent_timestamp) == (None, None, None)


ids = st.from_regex(r"[a-zA-Z0-9äé][a-zA-Z0-9äé._@-]{0,49}", fullmatch=True)
fixes = st.builds(
    lambda race_id, participant_id, lat_e7, lon_e7, ms, status: Fix(
        race_id, participant_id, lat_e7, lon_e7, ms, status, NOW_MS,
        fix_id(race_id, participant_id, ms, lat_e7, lon_e7, status),
    ),
    ids, ids,
    st.integers(-900_000_000, 900_000_000), st.integers(1, 1_800_000_000) | st.integers(-1_800_000_000, -1),
    st.integers(946_684_800_000, NOW_MS + 86_400_000), st.integers(0, 3),
)  # fmt: skip


@given(fixes)
def test_what_is_exported_is_taken_back_as_the_same_fix(fix: Fix) -> None:
    payload = payload_of(fix)
    (back,) = taken(payload)
    assert back == msgspec.structs.replace(fix, sent_timestamp=back.sent_timestamp)
    assert payload_of(back) == payload


@given(st.floats(-180, 180))
def test_rounds_as_the_contract_says(degrees: float) -> None:
    expected = math.copysign(int(abs(degrees) * 1e7 + 0.5), degrees)
    assert to_e7(degrees) == expected
    assert abs(Fraction(degrees) * 10**7 - to_e7(degrees)) <= Fraction(1, 2) + Fraction(1, 10**5)


def test_the_quick_way_is_the_usual_way() -> None:
    """So that a change which sends good payloads the careful way (6 µs instead of 3) does not go unseen."""
    for payload in (encoded(), encoded(participant_id="Zoë"), encoded(extra=[1]), b"[" + encoded() + b"]"):
        assert quick(TOPIC, payload, NOW_MS, RULES) == taken(payload)
