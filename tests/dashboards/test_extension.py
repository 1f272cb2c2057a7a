"""dashboards/extension.py under wsproto: what a dashboard may send compressed. Whole talks: hostile_deflate.py."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate as ClientsOwn

from actors.dashboards.extension import PerMessageDeflate
from tests.dashboards.hostile_deflate import deflated
from tests.kit.websocket import BINARY, CONTINUATION, PING, TEXT, frame

MOST = 4096


def server() -> Connection:
    return Connection(ConnectionType.SERVER, [PerMessageDeflate(MOST)])


def message(data: str | bytes, last: bool = True) -> Message[Any]:
    if isinstance(data, str):
        return TextMessage(data=data, message_finished=last)
    return BytesMessage(data=data, message_finished=last)


def received(connection: Connection, *sent: bytes) -> list[Event]:
    """What comes out; messages as a whole."""
    events: list[Event] = []
    parts: list[Any] = []
    for data in sent:
        connection.receive_data(data)
        for event in connection.events():
            if not isinstance(event, Message):
                events.append(event)
                continue
            parts.append(event.data)
            if event.message_finished:
                events.append(message(parts[0][:0].join(parts)))
                parts = []
    return events


def chopped(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@settings(deadline=None)  # machines are busy
@given(
    st.lists(st.text(max_size=500) | st.binary(max_size=500), max_size=5),
    st.integers(1, 4),
    st.integers(1, 1000),
    st.booleans(),
)
def test_every_message_of_a_client_comes_out(messages: list[str | bytes], parts: int, size: int, pings: bool) -> None:
    """Compressed by wsproto, in fragments, with pings between them, in reads of any size."""
    extension = ClientsOwn()
    extension.finalize("permessage-deflate; client_no_context_takeover; server_no_context_takeover")
    client = Connection(ConnectionType.CLIENT, [extension])
    said = bytearray()
    for data in messages:
        step = len(data) // parts + 1
        for at in range(0, max(1, len(data)), step):
            piece, last = data[at : at + step], at + step >= len(data)
            said += client.send(message(piece, last))
            if pings:
                said += client.send(Ping(payload=b"there?"))
    events = received(server(), *chopped(bytes(said), size))
    assert [event.data for event in events if isinstance(event, Message)] == messages
    assert all(isinstance(event, Message | Ping) for event in events)


def test_plain_messages_may_stand_between() -> None:
    said = deflated(b"one") + frame(TEXT, b"two") + frame(PING, b"p") + deflated(b"three") + frame(BINARY, b"four")
    assert received(server(), said) == [
        TextMessage(data="one"),
        TextMessage(data="two"),
        Ping(payload=b"p"),
        TextMessage(data="three"),
        BytesMessage(data=b"four"),
    ]


def code_of(*sent: bytes) -> int:
    """Of the close that is all that comes out."""
    [*before, close] = received(server(), *sent)
    assert before == []
    assert isinstance(close, CloseConnection)
    return close.code


@pytest.mark.parametrize("size", [1, 3, 4096])
def test_the_limit_is_of_what_comes_out(size: int) -> None:
    assert received(server(), *chopped(deflated(b"x" * MOST), size)) == [TextMessage(data="x" * MOST)]
    assert code_of(*chopped(deflated(b"x" * (MOST + 1)), size)) == 1009
    euros = "€".encode() * (MOST // 3 + 1)
    assert code_of(*chopped(deflated(euros), size)) == 1009


def test_the_limit_is_of_a_message_not_of_a_frame() -> None:
    compressed = zlib.compress(b"x" * (MOST + 1), 9, -15)
    half = len(compressed) // 2
    first, second = frame(TEXT, compressed[:half], rsv=4, fin=False), frame(CONTINUATION, compressed[half:])
    assert code_of(first, second) == 1009
    twice = deflated(b"x" * MOST) * 2
    assert received(server(), twice) == [TextMessage(data="x" * MOST)] * 2


def test_the_bit_is_where_a_message_begins() -> None:
    assert code_of(frame(TEXT, b"", rsv=4, fin=False) + frame(CONTINUATION, b"\x00", rsv=4)) == 1002
    assert code_of(frame(PING, b"", rsv=4)) == 1002
    assert code_of(frame(TEXT, b"\x00", rsv=6)) == 1002
    assert code_of(frame(CONTINUATION, b"\x00", rsv=4)) == 1002


def test_a_message_within_a_message_is_no_matter_of_compression() -> None:
    assert code_of(frame(TEXT, b"\x00", rsv=4, fin=False) + frame(TEXT, b"\xff not deflated")) == 1002


def test_it_offers_nothing() -> None:
    assert PerMessageDeflate(MOST).offer() is False
