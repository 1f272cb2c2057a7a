"""dashboards/frames.py: frames as clients read them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import TextMessage
from wsproto.extensions import Extension, PerMessageDeflate

from actors.core.position import position_json
from actors.dashboards import deflate, events, frames
from actors.dashboards.frames import LARGE_BYTES, SLICE_BYTES, SMALL_BYTES, Frame, Shared, sliced
from tests.kit.making import make_fix
from tests.kit.websocket import DEFLATED, texts_of


def read(*sent: bytes, extensions: list[Extension] | None = None) -> list[str]:
    """What a client reads that keeps nothing from one message for the next."""
    client = Connection(ConnectionType.CLIENT, extensions)
    client.receive_data(b"".join(sent))
    found = list(client.events())
    assert all(isinstance(event, TextMessage) and event.message_finished for event in found), found
    return [event.data for event in found if isinstance(event, TextMessage)]


def inflating() -> list[Extension]:
    extension = PerMessageDeflate()
    extension.finalize("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    return [extension]


def batch(count: int) -> bytes:
    rng = random.Random(count)
    fixes = [make_fix(f"P{n:03}", lat=rng.uniform(-8, -7), lon=rng.uniform(112, 113), at_s=n) for n in range(count)]
    return events.batch_event("R1", [position_json(fix, stale=False) for fix in fixes])


LENGTHS = (0, 1, 125, 126, 127, 65_535, 65_536, 200_000)


@pytest.mark.parametrize("length", LENGTHS)
def test_plain_frames_are_read_by_a_client(length: int) -> None:
    assert read(Frame(b"x" * length).plain, Frame(b"next").plain) == ["x" * length, "next"]


@pytest.mark.parametrize("length", LENGTHS)
def test_deflated_frames_are_read_by_a_client(length: int) -> None:
    sent = [Frame(b"x" * length).deflated, Frame(b"next").deflated]
    assert read(*sent, extensions=inflating()) == ["x" * length, "next"]


@pytest.mark.parametrize("count", [20, 100, 400, 4000])
def test_positions_shrink_to_a_seventh(count: int) -> None:
    """Also where the deflated length takes 2 bytes, and 8."""
    event = batch(count)
    frame = Frame(event)
    assert frame.deflated[0] & DEFLATED
    assert len(frame.deflated) < len(frame.plain) / 7
    assert read(frame.deflated, extensions=inflating()) == [event.decode()]


def test_what_does_not_shrink_is_plain() -> None:
    noise = Frame(random.Random(1).randbytes(1500))
    assert noise.deflated is noise.plain
    assert not noise.plain[0] & DEFLATED


def test_what_is_small_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(_data: bytes) -> bytes:
        raise AssertionError

    monkeypatch.setattr(frames, "blocks", blocks)
    frame = Frame(b" " * (SMALL_BYTES - 1))
    assert frame.deflated is frame.plain


def test_each_form_is_made_once_and_only_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    deflated: list[int] = []

    def blocks(data: bytes) -> bytes:
        deflated.append(len(data))
        return genuine(data)

    genuine = deflate.blocks
    monkeypatch.setattr(frames, "blocks", blocks)
    frame = Frame(batch(10))
    assert frame.plain is frame.plain
    assert deflated == []
    assert frame.deflated is frame.deflated
    assert deflated == [len(batch(10))]

    positions = Shared(b",".join([b'{"a":1}'] * 100))
    answers = [Frame(*events.snapshot_event("R1", [positions], 0, request_id)) for request_id in range(3)]
    deflated.clear()
    assert read(*(answer.deflated for answer in answers), extensions=inflating()) == read(
        *(answer.plain for answer in answers)
    )
    assert deflated.count(len(positions.data)) == 1


@settings(deadline=None)  # machines are busy
@given(st.lists(st.text(max_size=100), max_size=4), st.integers(0, 50))
def test_parts_are_read_as_one_text_in_either_form(parts: list[str], times: int) -> None:
    frame = Frame(*(Shared(part.encode() * times) for part in parts))
    text = "".join(part * times for part in parts)
    assert read(frame.plain) == [text]
    assert read(frame.deflated, extensions=inflating()) == [text]


@pytest.mark.parametrize("parts", [1, 3, 5, 30])
def test_a_large_message_goes_out_in_fragments_that_others_share(parts: int) -> None:
    positions = [Shared(batch(300)) for _ in range(parts)]
    one, other = Frame(b"[", *positions, b"]"), Frame(b"{", *positions, b"}")
    large = sum(len(part.data) for part in positions) + 2 >= LARGE_BYTES
    for pieces, frames_of_other in ((one.pieces(False), other.pieces(False)), (one.pieces(True), other.pieces(True))):
        assert len(pieces) == (len(positions) + 2 if large else 1)
        assert all(a is b for a, b in zip(pieces[1:-1], frames_of_other[1:-1], strict=True))
    extensions = inflating()
    assert texts_of(one.pieces(False)) == texts_of(one.pieces(True)) == [read(one.plain)[0].encode()]
    client = Connection(ConnectionType.CLIENT, extensions)
    client.receive_data(b"".join([*one.pieces(True), *other.pieces(True)]))
    text = "".join(event.data for event in client.events() if isinstance(event, TextMessage))
    assert text.encode() == texts_of(one.pieces(False))[0] + texts_of(other.pieces(False))[0]


def test_slices_are_read_as_what_they_are_of_and_shrink_as_well() -> None:
    event = batch(8000)
    parts = sliced(event)
    assert b"".join(part.data for part in parts) == event
    assert len(parts) == -(-len(event) // SLICE_BYTES) > 5
    whole, frame = Frame(event), Frame(*parts)
    assert read(frame.deflated, extensions=inflating()) == [event.decode()]
    assert len(frame.deflated) < len(whole.deflated) * 1.01
    assert sliced(b"x")[0].data == b"x"
