"""Small pure parts of the stores: the cursor, and the race that a rejected payload speaks of."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.history.cursor import EARLIEST_US, LATEST_US, decode_cursor, encode_cursor
from actors.history.queries import mentions_race


@given(st.integers(EARLIEST_US, LATEST_US), st.binary(min_size=16, max_size=16))
def test_a_cursor_comes_back(moment: int, fix: bytes) -> None:
    text = encode_cursor((moment, fix))
    assert decode_cursor(text) == (moment, fix)
    assert text.isascii()
    assert text.replace("-", "a").replace("_", "a").isalnum()


def encoded(moment: int) -> str:
    return base64.urlsafe_b64encode(struct.pack(">q16s", moment, bytes(16))).decode()


@pytest.mark.parametrize(
    "text",
    ["", "x", "a" * 31, "a" * 33, "!" * 32, "+" * 32, "=" * 32, "é" * 32, "a" * 28 + "====", " " * 32,
     encoded(LATEST_US + 1), encoded(EARLIEST_US - 1), encoded(2**63 - 1), encoded(-(2**63))],
)  # fmt: skip
def test_other_texts_are_no_cursors(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        decode_cursor(text)


@given(st.text(max_size=40))
def test_no_text_does_more_than_fail(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        decode_cursor(text)


@pytest.mark.parametrize(
    ("payload", "speaks"),
    [
        (b'{"race_id":"R1"}', True), (b'{"race_id" :\n"R1"', True), (b'[1,{"race_id":"\\u0052\\u0031"}]', True),
        (b'{"race_id":"R10"}', False), (b'{"race_id":"R1', False), (b'{"race":"R1"}', False),
        (b'{"race_id":1}', False), (b'\xff{"race_id":"R1"}\xff', True), (b'{"race_id":"\\x"}', False),
        (b'{"race_id":"\\x","race_id":"R1"}', True), (b"", False),
    ],
)  # fmt: skip
def test_the_race_of_a_rejected_payload(payload: bytes, speaks: bool) -> None:
    assert mentions_race(payload, "R1") is speaks
