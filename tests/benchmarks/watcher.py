"""A dashboard that costs little: WebSocket frames cut out of a bare socket, decoded only after the measurement.

A client library in Python would be slower than the daemon in a burst, and be treated as the slow dashboard it is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import attrs
import msgspec
import trio

READ_BYTES = 1 << 20
TEXT, PING, PONG = 0x81, 0x89, 0x8A  # RFC 6455 section 5.2, FIN set
UPDATE = b'"participantId"'


class _Position(msgspec.Struct):
    timestamp: datetime


class _Data(msgspec.Struct):
    positions: list[_Position] = []
    timestamp: datetime | None = None  # of an update that came alone


class _Event(msgspec.Struct):
    event: str
    data: _Data


@attrs.define(eq=False)
class Watcher:
    """Counts updates as they come, until the connection or the task ends."""

    stream: trio.SocketStream
    updates: int = 0
    snapshots: int = 0  # one for the subscription; each further one is a resync: then updates were dropped
    frames: list[tuple[float, bytes]] = attrs.field(factory=list)  # (when it came, Unix seconds; an update event)
    _buffer: bytearray = attrs.field(factory=bytearray)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def listen(self) -> None:
        """Take frames, answer pings."""
        async for data in self.stream:
            came = time.time()
            self._buffer += data
            while (frame := self._next_frame()) is not None:
                kind, payload = frame
                if kind == PING:
                    await self.stream.send_all(bytes((PONG, 0x80 | len(payload))) + bytes(4) + payload)
                elif kind == TEXT and payload.startswith(b'{"event":"race_snapshot"'):
                    self.snapshots += 1
                elif kind == TEXT:
                    self.frames.append((came, payload))
                    self.updates += payload.count(UPDATE)
            self._changed.set()
            self._changed = trio.Event()

    async def until(self, updates: int = 0, snapshots: int = 2) -> None:
        """That many updates have come, or a resync instead."""
        while self.updates < max(1, updates) and self.snapshots < snapshots:
            await self._changed.wait()

    def latencies_ms(self) -> list[float]:
        """From a fix's timestamp to its arrival here, sorted."""
        found = []
        for came, payload in self.frames:
            data = msgspec.json.decode(payload, type=_Event).data
            stamps = [position.timestamp for position in data.positions]
            if data.timestamp is not None:
                stamps.append(data.timestamp)
            found += [(came - stamp.timestamp()) * 1000 for stamp in stamps]
        return sorted(found)

    def _next_frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(buffer[2:start], "big")
        end = start + length
        if len(buffer) < end:
            return None
        frame = buffer[0], bytes(buffer[start:end])
        del buffer[:end]
        return frame


@asynccontextmanager
async def watching(port: int, token: str, race_id: str) -> AsyncIterator[Watcher]:
    """Connected, subscribed to the race, its snapshot there."""
    request = msgspec.json.encode({"event": "subscribe_race", "data": {"raceId": race_id}})
    assert len(request) < 126
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        await stream.send_all(
            f"GET /tracking?token={token} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        answer = await stream.receive_some(4096)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        watcher = Watcher(stream)
        nursery.start_soon(watcher.listen)
        await stream.send_all(bytes((TEXT, 0x80 | len(request))) + bytes(4) + request)  # masked with zeros
        await watcher.until(snapshots=1)
        yield watcher
        nursery.cancel_scope.cancel()
