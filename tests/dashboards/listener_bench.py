"""A listener on a port without sockets: connections over memory streams, and clients that stop reading."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import attrs
import pytest
import trio
import trio.testing
from starlette.types import ASGIApp
from trio_websocket import WebSocketConnection, wrap_client_stream

from actors.dashboards.listener import Listener
from actors.http.access import Access
from actors.settings.load import Settings
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.kit.dashboards import FakeHistory, FakeRaces, hello, ws_settings
from tests.kit.tokens import SECRET, token

Memory = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class FakePort:
    """A listening socket: streams, or errors to raise, in order."""

    def __init__(self) -> None:
        self.send, self._receive = trio.open_memory_channel[trio.abc.Stream | OSError](1000)
        self.socket = self

    async def accept(self) -> trio.abc.Stream:
        found = await self._receive.receive()
        if isinstance(found, OSError):
            raise found
        return found

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 3000)

    def close(self) -> None:
        self.send.close()


@attrs.define(eq=False)
class Bench:
    """A listener that runs on a FakePort."""

    listener: Listener
    port: FakePort
    metrics: Metrics
    nursery: trio.Nursery  # for clients
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def open(self) -> Memory:
        """The client's end of a new connection."""
        client, server = trio.testing.memory_stream_pair()
        self.port.send.send_nowait(server)
        return client

    async def dashboard(self, wrap: Callable[[Memory], trio.abc.Stream] = lambda stream: stream) -> WebSocketConnection:
        return await self.upgrade(wrap(self.open()))

    async def upgrade(self, client: trio.abc.Stream) -> WebSocketConnection:
        # Any stream will do, whatever its annotation says.
        stream = cast(trio.SocketStream, client)
        return await wrap_client_stream(self.nursery, stream, "127.0.0.1", f"/tracking?token={token()}")

    @property
    def connected(self) -> float | None:
        return self.metrics.registry.get_sample_value("tracking_ws_connections")

    def dropped(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("tracking_ws_dropped_total", {"reason": reason}) or 0.0


def make_listener(settings: Settings, metrics: Metrics, app: ASGIApp = hello) -> Listener:
    access = Access(SECRET.encode(), True, ("*",))
    return Listener(
        settings,
        access,
        FakeRaces(),
        FakeHistory(),
        metrics,
        Health(metrics),
        lambda: 1_000_000_000_000,
        app,
    )


@asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch, settings: Settings | None = None, app: ASGIApp = hello
) -> AsyncIterator[Bench]:
    metrics = Metrics()
    listener = make_listener(settings or ws_settings(), metrics, app)
    async with trio.open_nursery() as clients, trio.open_nursery() as nursery:
        bench = Bench(listener, FakePort(), metrics, clients)

        async def open_tcp_listeners(_port: int, *, host: str) -> list[FakePort]:
            await trio.lowlevel.checkpoint()
            bench.port = FakePort()
            return [bench.port]

        monkeypatch.setattr(trio, "open_tcp_listeners", open_tcp_listeners)

        async def run(*, task_status: trio.TaskStatus[list[int]]) -> None:
            with bench.scope:
                await listener.run(task_status=task_status)

        assert await nursery.start(run) == [3000]
        yield bench
        bench.scope.cancel()
        clients.cancel_scope.cancel()


class Deaf(trio.abc.Stream):
    """A client's stream that stops reading once it is connected."""

    def __init__(self, stream: Memory) -> None:
        self._stream = stream
        self.deaf = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if self.deaf:
            await trio.sleep_forever()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def deaf_dashboard(bench: Bench) -> WebSocketConnection:
    streams: list[Deaf] = []

    def wrap(stream: Memory) -> Deaf:
        streams.append(Deaf(stream))
        return streams[0]

    connection = await bench.dashboard(wrap)
    streams[0].deaf = True
    return connection
