"""A dashboard that runs on a socket whose other side is the test."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
import trio.testing

from actors.dashboards.endings import End
from actors.dashboards.subscriber import Subscriber
from actors.dashboards.websocket import Closed
from actors.http.access import Grant
from actors.settings.load import WsSettings
from actors.telemetry.metrics import Metrics
from tests.kit.dashboards import FakeHistory, FakeRaces
from tests.kit.described import check_frame
from tests.kit.websocket import texts_of

settled = trio.testing.wait_all_tasks_blocked


class FakeSocket:
    """A WebSocket whose other side is the test."""

    def __init__(self, deflated: bool = False) -> None:
        self.deflated = deflated
        self._to_server, self._from_client = trio.open_memory_channel[str | bytes](math.inf)
        self.sent: list[bytes] = []
        self.writable = trio.Event()  # while not set, sends hang
        self.writable.set()
        self.ponging = True
        self.pings = 0
        self.half_written = False
        self.broken = False
        self.closed_with = 1000
        self.unfinished_bytes = 0
        self.ready = False
        self.room = 10**9  # frames that write_now takes
        self.left_over: list[bytes] = []

    @property
    def unsent(self) -> bool:
        return bool(self.left_over)

    def write_now(self, frames: Sequence[bytes]) -> None:
        assert self.ready
        self.sent.extend(frames[: self.room])
        self.left_over = list(frames[self.room :])

    async def receive(self) -> str | bytes:
        try:
            return await self._from_client.receive()
        except trio.EndOfChannel:
            raise Closed(self.closed_with) from None

    async def send(self, frames: Sequence[bytes], timeout_s: float) -> None:
        if self.broken:
            await trio.lowlevel.checkpoint()
            raise Closed
        self.half_written = True
        with trio.fail_after(timeout_s):
            await self.writable.wait()
        self.half_written = False
        self.sent.extend((*self.left_over, *frames))
        self.left_over = []

    async def ping(self) -> None:
        self.pings += 1
        await trio.lowlevel.checkpoint()
        if not self.ponging:
            await trio.sleep_forever()

    # --- the client's side ---

    def ask(self, event: str, data: object = None, **more: object) -> None:
        self.ask_raw(json.dumps({"event": event, "data": data or {}, **more}))

    def ask_raw(self, message: str | bytes) -> None:
        self._to_server.send_nowait(message)

    def leave(self) -> None:
        self._to_server.close()

    def take(self) -> list[dict[str, Any]]:
        """Events sent since the last call."""
        frames, self.sent = self.sent, []
        return [check_frame(text) for text in texts_of(frames)]


@attrs.define(eq=False)
class Bench:
    """A subscriber that runs."""

    subscriber: Subscriber
    socket: FakeSocket
    races: FakeRaces
    history: FakeHistory
    metrics: Metrics
    endings: list[End] = attrs.field(factory=list)

    async def ask(self, event: str, data: object = None, **more: object) -> list[dict[str, Any]]:
        self.socket.ask(event, data, **more)
        await settled()
        return self.socket.take()


@asynccontextmanager
async def running(
    settings: WsSettings | None = None,
    grant: Grant | None = None,
    lifetime_s: float = math.inf,
    deflated: bool = False,
) -> AsyncIterator[Bench]:
    socket, races, history, metrics = FakeSocket(deflated), FakeRaces(), FakeHistory(), Metrics()
    subscriber = Subscriber(
        socket, grant or Grant(None), settings or WsSettings(), races, history, metrics, lifetime_s=lifetime_s
    )
    bench = Bench(subscriber, socket, races, history, metrics)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            bench.endings.append(await subscriber.run())

        nursery.start_soon(run)
        await settled()
        yield bench
        socket.leave()
