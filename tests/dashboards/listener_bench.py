"""A listener on a port without sockets: connections over memory streams, and clients that read only when told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing
from starlette.types import ASGIApp

from actors.dashboards.listener import Listener
from actors.http.access import Access
from actors.settings.load import Settings
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.kit.client import Dashboard
from tests.kit.dashboards import FakeHistory, FakeRaces, hello, ws_settings
from tests.kit.tokens import SECRET
from tests.kit.websocket import request

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
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def open(self) -> Memory:
        """The client's end of a new connection."""
        client, server = trio.testing.memory_stream_pair()
        self.port.send.send_nowait(server)
        return client

    async def dashboard(self, stream: Memory | None = None) -> Dashboard:
        """One that was let in, on a new connection unless one is given."""
        board = Dashboard(stream or self.open())
        assert await board.open(request()) == 101
        return board

    async def status(self, head: bytes) -> int:
        """Of the answer to a request on a connection of its own."""
        return await Dashboard(self.open()).open(head)

    @property
    def history(self) -> FakeHistory:
        return cast(FakeHistory, self.listener.history)

    @property
    def races(self) -> FakeRaces:
        return cast(FakeRaces, self.listener.races)

    @property
    def connected(self) -> float | None:
        return self.metrics.registry.get_sample_value("tracking_ws_connections")

    def dropped(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("tracking_ws_dropped_total", {"reason": reason}) or 0.0


def make_listener(
    settings: Settings, metrics: Metrics, app: ASGIApp = hello, clock: Callable[[], int] = lambda: 1_000_000_000_000
) -> Listener:
    access = Access(SECRET.encode(), True, ("*",))
    return Listener(
        settings,
        access,
        FakeRaces(),
        FakeHistory(),
        metrics,
        Health(metrics),
        clock,
        app,
    )


@asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch, settings: Settings | None = None, app: ASGIApp = hello, **more: Any
) -> AsyncIterator[Bench]:
    """`more` as of make_listener."""
    metrics = Metrics()
    listener = make_listener(settings or ws_settings(), metrics, app, **more)
    async with trio.open_nursery() as nursery:
        bench = Bench(listener, FakePort(), metrics)

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
