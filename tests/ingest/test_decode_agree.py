"""The quick way and the careful way of decoding agree on anything, and JSON is what others call JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from actors.core.errors import RejectionCode
from actors.ingest.decode import decode, quick
from actors.ingest.validate import Rules, validate
from tests.ingest.test_decode import EXAMPLE, NOW_MS, RULES, TOPIC


def agree(payload: bytes, rules: Rules = RULES, topic: bytes = TOPIC) -> None:
    fast = quick(topic, payload, NOW_MS, rules)
    fixes, rejections = validate(topic, payload, NOW_MS, rules)
    assert (fast is None) == bool(rejections)
    assert fast is None or fast == fixes
    assert {row.code for row in rejections} <= {code.value for code in RejectionCode}
    assert (fixes, rejections) == decode(topic, payload, NOW_MS, rules)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
good_values: dict[str, st.SearchStrategy[Any]] = {
    "participant_id": st.sampled_from(["P001", "Zoe\u0308", "é", "Ⅳ", "a b"]) | st.text(max_size=52),
    "race_id": st.sampled_from(["R2025-07", "r" * 50]) | st.text(max_size=52),
    "latitude": st.floats(-91, 91)
    | st.integers(-91, 91)
    | st.sampled_from([0, -0.0, 1e-9, -4.9e-8, 5e-8, 90, -90.00000001]),
    "longitude": st.floats(-181, 181)
    | st.integers(-181, 181)
    | st.sampled_from([0, -0.0, -1e-8, 4.9e-8, -5e-8, 180, -180]),
    "timestamp": st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.just("2025-07-01T08:15:30Z"),
    "status": st.sampled_from(["moving", "stopped", "finished", "disqualified", "MOVING"]),
}
near_misses = st.fixed_dictionaries(
    {}, optional={name: values | json_values for name, values in good_values.items()} | {"more": json_values}
)
mostly_good = st.builds(lambda changes: EXAMPLE | changes, near_misses)


@given(near_misses | mostly_good, st.booleans(), st.booleans())
def test_agree_on_objects(item: dict[str, object], ascii_only: bool, identity: bool) -> None:
    rules = Rules(10_000, topic_identity="participant_id", topics=("tracking/+/position",)) if identity else RULES
    agree(json.dumps(item, ensure_ascii=ascii_only).encode(errors="surrogatepass"), rules)


@given(st.lists(mostly_good | json_values, max_size=4), st.integers(0, 5))
def test_agree_on_arrays(items: list[object], most: int) -> None:
    agree(json.dumps(items).encode(), Rules(10_000, max_elements=most))


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(b"[")
@example(b'"')
def test_agree_on_any_bytes(payload: bytes) -> None:
    agree(payload)


@given(st.data())
def test_agree_on_damaged_payloads(data: st.DataObject) -> None:
    payload = bytearray(json.dumps(data.draw(mostly_good | st.lists(mostly_good, max_size=2))).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload)))
        payload[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from(
                [b"", b"\\", b'"', b"[", b"]", b"{", b"}", b",", b":", b"\xff", b"\\ud800", b"0", b"-", b"\0"]
            )
        )
    agree(bytes(payload), Rules(10_000))


def strict(payload: bytes) -> bool:
    """What JSON is, by Python's parser, with its leniencies taken away."""

    def refuse(constant: str) -> object:
        raise ValueError(constant)

    def unpaired(value: object) -> bool:
        if isinstance(value, list):
            return any(map(unpaired, value))
        return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)

    try:
        value = json.loads(
            payload.decode(),
            parse_constant=refuse,
            object_pairs_hook=lambda pairs: [part for pair in pairs for part in pair],
        )
    except ValueError:
        return False
    return not unpaired(value)


TOKENS = [
    *("[", "]", "{", "}", ",", ":", '"a"', '{"a":1}', "[1,2]", '"', "null", "true", "NaN", " ", "\t", "\x0b", "\u2028"),
    *('"\\ud83d\\ude00"', '"\\ud83d"', '"\\', '"\u2028"', '"\x1f"', '"\\/\\b\\u000a"'),
    *("1", "-0", "01", "1.5", "1e5", ".", "e"),
]
pieces = st.lists(st.sampled_from(TOKENS), max_size=12).map("".join)


@given(pieces | json_values.map(json.dumps))
def test_json_is_what_pythons_own_parser_calls_json(text: str) -> None:
    _, rejections = validate(TOPIC, text.encode(errors="surrogatepass"), NOW_MS, RULES)
    said_bad = any(row.code in ("bad_json", "bad_encoding") for row in rejections)
    assert said_bad == (not strict(text.encode(errors="surrogatepass")))
