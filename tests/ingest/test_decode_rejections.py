"""What is rejected, with which code, and that the two ways of decoding agree on everything."""

from __future__ import annotations

import json

import pytest

from actors.core.identity import rejection_id
from actors.core.rejection import Rejection
from actors.ingest.decode import decode
from actors.ingest.validate import Rules
from tests.ingest.test_decode import EXAMPLE, NOW_MS, RULES, TOPIC, encoded

E = encoded()


def rejected(payload: bytes, topic: bytes = TOPIC, rules: Rules = RULES) -> Rejection:
    """The only rejection of a message without a fix."""
    fixes, rejections = decode(topic, payload, NOW_MS, rules)
    assert fixes == []
    (row,) = rejections
    assert row.id == rejection_id(topic, payload, 0, row.code)
    assert row.received_ms == NOW_MS
    assert row.payload == payload[:4096]
    assert 0 < len(row.detail) <= 200
    assert "\0" not in row.detail
    return row


def raw(name: str, value: bytes) -> bytes:
    """The example with the JSON of one field written out."""
    return encoded(**{name: "@@"}).replace(b'"@@"', value)


WHOLE: list[tuple[str, bytes, str]] = [
    ("empty", b"", "bad_json"),
    ("blank", b"  \n", "bad_json"),
    ("not UTF-8", E.replace(b"P001", b"P\xff01"), "bad_encoding"),
    ("not UTF-8 in an ignored field", E.replace(b"{", b'{"x":"\xff",'), "bad_encoding"),
    ("not UTF-8 and not JSON", b"\xff{", "bad_encoding"),
    ("surrogate in UTF-8", E.replace(b"P001", b"\xed\xa0\x80"), "bad_encoding"),
    ("overlong UTF-8", E.replace(b"P001", b"P\xc0\xaf"), "bad_encoding"),
    ("UTF-8 with BOM", b"\xef\xbb\xbf" + E, "bad_encoding"),
    ("only a BOM", b"\xef\xbb\xbf", "bad_encoding"),
    ("UTF-16 with BOM", E.decode().encode("utf-16"), "bad_encoding"),
    ("UTF-16 without BOM", E.decode().encode("utf-16-le"), "bad_json"),
    ("UTF-32 with BOM", E.decode().encode("utf-32"), "bad_encoding"),
    ("not closed", E[:-1], "bad_json"),
    ("trailing garbage", E + b"x", "bad_json"),
    ("two objects", E + E, "bad_json"),
    ("trailing NUL", E + b"\0", "bad_json"),
    ("trailing comma", E[:-1] + b",}", "bad_json"),
    ("comment", E + b" // hello", "bad_json"),
    ("single quotes", E.replace(b'"', b"'"), "bad_json"),
    ("control character in a string", E.replace(b"P001", b"P\n1"), "bad_json"),
    ("bad escape", E.replace(b"P001", b"P\\x41"), "bad_json"),
    ("text", b"hello", "bad_json"),
    ("100,000 [", b"[" * 100_000, "bad_json"),
    ("100,000 [ closed", b"[" * 100_000 + b"]" * 100_000, "bad_json"),
    ("deep in an ignored field", E.replace(b"{", b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b",", 1), "bad_json"),
    ("deep objects", b'{"a":' * 40_000 + b"1" + b"}" * 40_000, "bad_json"),
    ("NaN", raw("latitude", b"NaN"), "bad_json"),
    ("Infinity", raw("latitude", b"Infinity"), "bad_json"),
    ("-Infinity", raw("longitude", b"-Infinity"), "bad_json"),
    ("NaN in an ignored field", raw("x", b"NaN"), "bad_json"),
    ("leading zero", raw("latitude", b"07.5"), "bad_json"),
    ("plus sign", raw("latitude", b"+7.5"), "bad_json"),
    ("no digit after the point", raw("latitude", b"7."), "bad_json"),
    ("hexadecimal", raw("latitude", b"0x10"), "bad_json"),
    ("underscore", raw("latitude", b"1_0"), "bad_json"),
    ("Arabic digits", raw("latitude", "٤٥".encode()), "bad_json"),
    ("lone high surrogate in an id", raw("participant_id", rb'"P\ud800"'), "bad_json"),
    ("lone low surrogate in an id", raw("race_id", rb'"\udc00R"'), "bad_json"),
    ("lone surrogate in an ignored field", raw("x", rb'"\ud83d\u0041"'), "bad_json"),
    ("lone surrogate in a key", E.replace(b"{", rb'{"\ud800": 1,'), "bad_json"),
    ("surrogates the wrong way round", raw("x", rb'"\ude00\ud83d"'), "bad_json"),
    ("null", b"null", "bad_type"),
    ("string", b'"hello"', "bad_type"),
    ("number", b"42", "bad_type"),
    ("number beyond a double", b"1e999", "bad_type"),
    ("true", b"true", "bad_type"),
    ("array of 1,001", b"[" + b",".join([b"{}"] * 1001) + b"]", "too_large"),
    ("array of 1,001 good ones", b"[" + b",".join([E] * 1001) + b"]", "too_large"),
    ("too many bytes", E + b" " * 262_144, "too_large"),
    ("too many bytes, no object", b"1" * 262_145, "too_large"),
    ("too many bytes, not UTF-8", b"\xff" * 262_145, "bad_encoding"),
    ("too many bytes, not JSON", b"x" * 262_145, "bad_json"),
    ("no fields", b"{}", "missing_field"),
]


@pytest.mark.parametrize(("payload", "code"), [row[1:] for row in WHOLE], ids=[row[0] for row in WHOLE])
def test_refuses_a_message(payload: bytes, code: str) -> None:
    assert rejected(payload).code == code


FIELDS: list[tuple[str, str, object, str]] = [
    *[(f"{name} null", name, None, "bad_type") for name in EXAMPLE],
    *[(f"{name} true", name, True, "bad_type") for name in EXAMPLE],
    *[(f"{name} array", name, [1], "bad_type") for name in EXAMPLE],
    *[(f"{name} object", name, {"a": 1}, "bad_type") for name in EXAMPLE],
    *[(f"{name} number", name, 7, "bad_type") for name in EXAMPLE if name not in ("latitude", "longitude")],
    *[
        (f"{name} {what}", name, value, "bad_id")
        for name in ("participant_id", "race_id")
        for what, value in [
            ("empty", ""),
            ("51 characters", "x" * 51),
            ("51 letters that compose", "e\u0301" * 51),
            ("very long", "x" * 10_000),
            ("50 emoji", "\U0001f3c3" * 50),
            ("emoji", "P\U0001f3c3"),
            ("NUL", "P\0"),
            ("newline", "P\n"),
            ("colon", "a:b"),
            ("slash", "a/b"),
            ("plus", "a+b"),
            ("hash", "a#b"),
            ("brace", "a{b"),
            ("closing brace", "a}b"),
            ("star", "a*b"),
            ("blank", "a b"),
            ("leading blank", " a"),
            ("trailing blank", "a "),
            ("no-break space", "a\u00a0b"),
            ("right-to-left mark", "a\u200f"),
            ("right-to-left override", "\u202ea"),
            ("zero-width joiner", "a\u200db"),
            ("BOM inside", "a\ufeff"),
            ("leading dot", ".a"),
            ("leading underscore", "_a"),
            ("leading hyphen", "-a"),
            ("leading at", "@a"),
            ("leading mark", "\u0301a"),
            ("roman numeral", "Ⅳ"),
            ("superscript digit", "a²"),
            ("private use", "a\ue000"),
            ("unassigned", "a\u0378"),
            ("backslash", "a\\b"),
            ("quote", 'a"b'),
            ("percent", "50%"),
        ]
    ],
    *[
        (f"{name} {what}", name, value, "bad_type")
        for name in ("latitude", "longitude")
        for what, value in [("string", "1.5"), ("empty string", ""), ("false", False)]
    ],
    ("latitude out by 1e-7", "latitude", 90.0000001, "bad_coordinate"),
    ("latitude out below", "latitude", -90.0000001, "bad_coordinate"),
    ("latitude out by 1e-10", "latitude", 90.0000000001, "bad_coordinate"),
    ("latitude 300 digits", "latitude", 10**300, "bad_coordinate"),
    ("longitude out by 1e-7", "longitude", 180.0000001, "bad_coordinate"),
    ("longitude out below", "longitude", -180.0000001, "bad_coordinate"),
    ("longitude 360", "longitude", 360, "bad_coordinate"),
    *[
        (f"timestamp {value!r}", "timestamp", value, "bad_timestamp")
        for value in [
            "",
            "2025-07-01T08:15:30",
            "2025-07-01",
            "2025-07-01 08:15:30Z",
            "2025-W27-2T08:15:30Z",
            "20250701T081530Z",
            "2025-07-01T08:15:60Z",
            "2025-07-01T08:15:30+99:99",
            "0001-01-01T00:00:00+14:00",
            "1751357730",
            "2025-07-01T08:15:30.1234567890Z",
            "1970-01-01T00:00:00Z",
            "1999-12-31T23:59:59Z",
            "2025-02-30T08:15:30Z",
            "٢٠٢٥-07-01T08:15:30Z",
            "2025-07-01T08:15:30Z\0",
        ]
    ],
    ("timestamp 24 h and 1 ms ahead", "timestamp", "2025-07-02T08:15:31.501Z", "in_the_future"),
    ("timestamp in the year 9999", "timestamp", "9999-12-31T23:59:59-23:59", "in_the_future"),
    ("status in capitals", "status", "MOVING", "bad_status"),
    ("status empty", "status", "", "bad_status"),
    ("status unknown", "status", "running", "bad_status"),
]


@pytest.mark.parametrize(("name", "value", "code"), [row[1:] for row in FIELDS], ids=[row[0] for row in FIELDS])
def test_refuses_a_field(name: str, value: object, code: str) -> None:
    row = rejected(encoded(**{name: value}))
    assert row.code == code
    assert row.detail.startswith(name)


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 5000, b"-" + b"9" * 400, b"1.8e308"])
@pytest.mark.parametrize("name", list(EXAMPLE))
def test_a_number_beyond_a_double_is_the_wrong_type(name: str, number: bytes) -> None:
    assert rejected(raw(name, number)).code == "bad_type"


@pytest.mark.parametrize("other", [b"-0.0", b"1e-9", b"-0.00000001", b"0.000000049"])
@pytest.mark.parametrize("zero", [b"0", b"0.0", b"-0.0", b"-0", b"0e5", b"1e-999", b"1e-9", b"-4.9e-8"])
def test_both_zero_where_they_are_stored_is_a_tracker_without_a_fix(zero: bytes, other: bytes) -> None:
    for latitude, longitude in ((zero, other), (other, zero)):
        row = rejected(raw("latitude", latitude).replace(b"112.6145", longitude))
        assert row.code == "no_fix"
        assert f"{latitude.decode()}, {longitude.decode()}" in row.detail


@pytest.mark.parametrize("name", [name for name in EXAMPLE if name != "status"])
def test_a_missing_field_is_named(name: str) -> None:
    row = rejected(json.dumps({key: EXAMPLE[key] for key in EXAMPLE if key != name}).encode())
    assert (row.code, row.detail) == ("missing_field", f"{name} is missing")


def test_of_duplicate_keys_the_last_counts() -> None:
    assert rejected(E[:-1] + b', "latitude": "x"}').code == "bad_type"


def test_the_first_rule_in_order_names_the_rejection() -> None:
    """Every field broken; mending them one by one shows each rule in its turn."""
    rules = Rules(max_payload_bytes=1000, topic_identity="participant_id", topics=("tracking/+/position",))
    item: dict[str, object] = {"status": 1}
    mends: list[tuple[str, object, str]] = [
        ("participant_id", 7, "missing_field"),
        ("participant_id", "/", "bad_type"),
        ("participant_id", "P002", "bad_id"),
        ("race_id", None, "missing_field"),
        ("race_id", "", "bad_type"),
        ("race_id", "R", "bad_id"),
        ("latitude", "x", "missing_field"),
        ("latitude", 91, "bad_type"),
        ("latitude", 0, "bad_coordinate"),
        ("longitude", "x", "missing_field"),
        ("longitude", 181, "bad_type"),
        ("longitude", 0, "bad_coordinate"),
        ("longitude", 1, "no_fix"),
        ("timestamp", 1, "missing_field"),
        ("timestamp", "x", "bad_type"),
        ("timestamp", "2026-07-01T08:15:30Z", "bad_timestamp"),
        ("timestamp", "2025-07-01T08:15:30Z", "in_the_future"),
        ("status", "x", "bad_type"),
        ("status", "moving", "bad_status"),
        ("participant_id", "P001", "topic_mismatch"),
    ]
    for name, value, code in mends:
        assert rejected(json.dumps(item).encode(), rules=rules).code == code
        item[name] = value
    assert len(decode(TOPIC, json.dumps(item).encode(), NOW_MS, rules)[0]) == 1


@pytest.mark.parametrize(
    ("identity", "topics", "topic"),
    [
        ("participant_id", ("tracking/+/position",), b"tracking/P002/position"),
        ("participant_id", ("tracking/+/position",), b"tracking/P001/elsewhere"),
        ("participant_id", ("tracking/+/position",), b"tracking/P001"),
        ("participant_id", ("tracking/+/position",), b""),
        ("participant_id", ("tracking/+/position",), b"tracking/\xff/position"),
        ("race_id", ("tracking/+/position",), b"tracking/P001/position"),
        ("participant_id", ("+/+",), b"x/P001"),
        ("participant_id", ("x/+", "+/P001"), b"x/P002"),
        ("participant_id", ("+",), b"$SYS"),
        ("participant_id", ("no/plus",), b"no/plus"),
    ],
)
def test_refuses_what_the_topic_contradicts(identity: str, topics: tuple[str, ...], topic: bytes) -> None:
    rules = Rules(max_payload_bytes=10_000, topic_identity=identity, topics=topics)
    assert rejected(E, topic, rules).code == "topic_mismatch"
