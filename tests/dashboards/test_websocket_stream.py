"""http/stream.py on real sockets: writes without waiting, frames that stay whole, closes that arrive."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
import trio.testing
from trio_websocket import CloseReason, WebSocketConnection

from actors.dashboards import websocket
from actors.dashboards.frames import Frame
from actors.dashboards.websocket import WebSocket
from actors.http.stream import CLOSE_FRAME, ConnectionStream
from tests.kit.client import WITHIN_S, reset_on_close

pytestmark = pytest.mark.live


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[ConnectionStream, trio.SocketStream]]:
    """Our end and the client's, with a send buffer that is soon full."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        server = await listener.accept()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    try:
        yield ConnectionStream(server), client
    finally:
        await trio.aclose_forcefully(client)
        await trio.aclose_forcefully(server)


async def read(client: trio.SocketStream, size: int) -> bytes:
    received = b""
    with trio.fail_after(WITHIN_S):
        while len(received) < size:
            data = await client.receive_some(65536)
            assert data
            received += data
    return received


async def test_a_half_written_frame_is_finished_before_anything_else() -> None:
    async with connected() as (stream, client), trio.open_nursery() as nursery:
        big, small, close = Frame(os.urandom(2_000_000)).plain, Frame(b"{}").plain, bytes((CLOSE_FRAME, 0))
        assert stream.ready
        stream.write_now([small, big])
        assert 0 < len(stream.unsent) < len(big)
        assert not stream.ready
        nursery.start_soon(stream.send_all, close)
        assert await read(client, len(small + big + close)) == small + big + close
        await trio.testing.wait_all_tasks_blocked()
        assert stream.unsent == b""
        assert not stream.ready  # nothing may follow a close frame
        assert await stream.send_prebuilt([small], 1) is False


async def test_the_writer_sends_what_was_left_over() -> None:
    async with connected() as (stream, client), trio.open_nursery() as nursery:
        big, small = Frame(os.urandom(2_000_000)).plain, Frame(b"{}").plain
        stream.write_now([big])
        nursery.start_soon(stream.send_prebuilt, [small], 5)
        assert await read(client, len(big + small)) == big + small


async def test_writers_at_the_same_time_do_not_mix_frames() -> None:
    async with connected() as (stream, client), trio.open_nursery() as nursery:
        frames = [Frame(bytes([65 + number]) * 400_000).plain for number in range(5)]
        for frame in frames[:3]:
            nursery.start_soon(stream.send_prebuilt, [frame], 5)
        for frame in frames[3:]:  # as the library writes
            nursery.start_soon(stream.send_all, frame)
        await trio.testing.wait_all_tasks_blocked()
        assert not stream.ready  # what does not wait would go into the middle of one
        received = await read(client, sum(map(len, frames)))
    assert not stream.broken
    size = len(frames[0])
    assert sorted(received[i : i + size] for i in range(0, len(received), size)) == frames


async def test_a_slow_client_that_takes_a_little_is_not_too_slow() -> None:
    async with connected() as (stream, client), trio.open_nursery() as nursery:
        size = 6_000_000  # more than the kernel holds

        async def sip() -> None:
            left = size
            while left:
                left -= len(await client.receive_some(200_000))
                await trio.sleep(0.1)

        nursery.start_soon(sip)
        started = trio.current_time()
        assert await stream.send_prebuilt([bytes(size)], 1.0)
        assert trio.current_time() - started > 1.0


async def test_a_client_that_takes_nothing_breaks_the_stream() -> None:
    async with connected() as (stream, client):
        with pytest.raises(trio.TooSlowError):
            await stream.send_prebuilt([bytes(10_000_000)], 0.1)
        assert stream.broken
        with pytest.raises(trio.ClosedResourceError), trio.fail_after(WITHIN_S):
            await stream.send_all(b"more")
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_prebuilt([b"more"], 1)
        received = bytearray()

        async def read_all() -> None:
            async for data in client:
                received.extend(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all)
            await stream.send_last(b"nothing", 1)
            await stream.drop()
        assert not received.strip(b"\0")  # half a frame, and nothing after it


async def test_a_client_that_takes_no_small_frame_either_is_too_slow() -> None:
    async with connected() as (stream, _client):

        async def fill() -> None:
            while True:
                await stream.send_prebuilt([bytes(20_000)], 0.1)

        with trio.fail_after(WITHIN_S), pytest.raises(trio.TooSlowError):
            await fill()
        assert stream.broken


class Parted:
    """The library's connection after both said goodbye."""

    closed = CloseReason(1000, None)


@pytest.mark.parametrize("broken", [True, False])
async def test_half_a_frame_is_no_end_that_is_waited_for(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    linger_s = 60.0 if broken else 0.3
    monkeypatch.setattr(websocket, "LINGER_S", linger_s)
    async with connected() as (stream, client):
        if broken:
            with pytest.raises(trio.TooSlowError):
                await stream.send_prebuilt([bytes(10_000_000)], 0.1)
        started = trio.current_time()
        await WebSocket(stream, cast(WebSocketConnection, Parted()), False).finish()
        assert (trio.current_time() - started < linger_s) is broken
        if not broken:
            assert await read(client, 4) == bytes((CLOSE_FRAME, 2)) + (1000).to_bytes(2, "big")


async def test_last_words_arrive_although_input_was_not_read() -> None:
    async with connected() as (stream, client), trio.open_nursery() as nursery:
        await client.send_all(bytes(4000))
        await stream.send_last(b"goodbye", 1)
        nursery.start_soon(stream.linger, 5)
        assert await read(client, 7) == b"goodbye"
        await client.aclose()


async def test_a_client_that_is_gone() -> None:
    async with connected() as (stream, client):
        reset_on_close(client)
        await client.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(10)
        stream.write_now([b"x"])
        assert stream.unsent == b"x"
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_prebuilt([b"y"], 1)
        await stream.linger(1)
        assert not stream.ready
