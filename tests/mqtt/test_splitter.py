"""PUBLISH packets come out of the stream wherever it is cut; everything else stays in it, in order."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mqtt.splitter import AT_QOS_2, Arrivals, Splitter


@attrs.frozen
class Packet:
    raw: bytes
    message: tuple[bytes, bytes] | None = None  # None: for paho
    packet_id: int = 0


def integer(value: int) -> bytes:
    """MQTT 5 section 1.5.5."""
    encoded = bytearray()
    while True:
        value, low = divmod(value, 128)
        encoded.append(low | (128 if value else 0))
        if not value:
            return bytes(encoded)


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + integer(len(body)) + body


def publish(
    topic: bytes, payload: bytes, qos: int, packet_id: int, properties: bytes | None, retained_dup: int = 0
) -> Packet:
    """`properties` None: MQTT 3.1.1."""
    body = len(topic).to_bytes(2, "big") + topic + (packet_id.to_bytes(2, "big") if qos else b"")
    if properties is not None:
        body += integer(len(properties)) + properties
    raw = packet(0x30 | retained_dup | qos << 1, body + payload)
    if qos == 3:
        return Packet(raw)
    return Packet(raw, (topic, payload), (0, packet_id, packet_id and packet_id + AT_QOS_2)[qos])


def packets(is_v5: bool) -> st.SearchStrategy[Packet]:
    texts = st.binary(max_size=200)
    published = st.builds(
        publish,
        st.binary(max_size=40),
        st.one_of(texts, st.just(b"x" * 20_000)),
        st.sampled_from([0, 1, 1, 2, 2, 3]),
        st.integers(0, 65535),
        st.one_of(st.just(b""), texts) if is_v5 else st.none(),
        st.sampled_from([0, 1, 8, 9]),
    )
    others = st.builds(
        lambda first, body: Packet(packet(first, body)), st.sampled_from([0x20, 0x40, 0x62, 0x90, 0xD0, 0xE0]), texts
    )
    return published | others


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in [*sizes, len(stream)]:
        pieces.append(stream[at : at + size])
        at += size
    return [piece for piece in pieces if piece]


@given(st.data(), st.booleans())
def test_wherever_the_stream_is_cut(data: st.DataObject, is_v5: bool) -> None:
    sent = data.draw(st.lists(packets(is_v5), max_size=8))
    pieces = cut(b"".join(p.raw for p in sent), data.draw(st.lists(st.integers(1, 300), max_size=30)))
    arrivals = Arrivals()
    splitter = Splitter(arrivals, is_v5)
    for_paho = b"".join(map(splitter.split, pieces))
    assert arrivals.messages == [p.message for p in sent if p.message is not None]
    assert arrivals.packet_ids == [p.packet_id for p in sent if p.message is not None]
    assert for_paho == b"".join(p.raw for p in sent if p.message is None)


@given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
def test_any_bytes_are_messages_or_paho_s(pieces: list[bytes], is_v5: bool) -> None:
    arrivals = Arrivals()
    splitter = Splitter(arrivals, is_v5)
    for_paho = b"".join(map(splitter.split, pieces))
    assert len(for_paho) + sum(len(topic) + len(payload) for topic, payload in arrivals.messages) <= sum(
        map(len, pieces)
    )


CUT_SHORT = [b"", b"\0", b"\0\5abc", b"\0\1a", b"\0\1a\0"]
BAD_PROPERTIES = [b"\0\1a\0\1", b"\0\1a\0\1\x7f", b"\0\1a\0\1\xff\xff\xff\xff\1", b"\0\1a\0\1\x80"]


@pytest.mark.parametrize(
    ("body", "is_v5"),
    [(body, is_v5) for body in CUT_SHORT for is_v5 in (True, False)] + [(body, True) for body in BAD_PROPERTIES],
)
def test_a_malformed_publish_is_left_to_paho(body: bytes, is_v5: bool) -> None:
    arrivals = Arrivals()
    raw = packet(0x32, body)
    # What follows must not be read as a part of it.
    assert Splitter(arrivals, is_v5).split(raw + b"\xd0\0") == raw + b"\xd0\0"
    assert arrivals.messages == []


def test_a_length_of_five_bytes_leaves_the_rest_to_paho() -> None:
    arrivals = Arrivals()
    splitter = Splitter(arrivals, True)
    good = publish(b"t", b"p", 1, 7, b"")
    broken = b"\x30\xff\xff\xff\xff\1"
    assert splitter.split(good.raw + broken) == broken
    assert splitter.split(good.raw) == good.raw
    assert arrivals.packet_ids == [7]


def test_plain_takes_nothing() -> None:
    arrivals = Arrivals()
    raw = publish(b"t", b"p", 1, 7, b"").raw
    assert Splitter(arrivals, True, plain=True).split(raw[:3]) == raw[:3]
    assert arrivals.messages == []


def test_a_large_message_in_many_pieces_is_joined_once() -> None:
    arrivals = Arrivals()
    splitter = Splitter(arrivals, True)
    sent = publish(b"t", b"x" * 2_000_000, 1, 7, b"")
    for piece in cut(sent.raw, [1000] * 2000):
        assert splitter.split(piece) == b""
    assert arrivals.messages == [sent.message]
