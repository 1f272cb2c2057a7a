"""A listener for hostile clients: how they end, and what must be as before when they are gone."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog.testing
import trio

from actors.http.gate import Gate
from tests.dashboards.hostile_frames import MAX_MESSAGE_BYTES, Seen, Talk
from tests.kit import websocket
from tests.kit.client import Dashboard, reset_on_close
from tests.kit.dashboards import Site, hello, running_site, until, ws_settings
from tests.kit.websocket import NORMAL, RawSocket, close, request

AT_ONCE = 100  # hostile connections: twice as many file descriptors, of which some systems allow only 1,024
PATIENCE_S = 90.0
ENDINGS = ("wait", "fin", "reset")


@asynccontextmanager
async def besieged() -> AsyncIterator[Site]:
    """What runs inside must not be noticed by a dashboard that watches, nor stay behind, nor be called a crash."""
    settings = ws_settings(
        handshake_timeout_s=1, heartbeat_s=3600, max_message_bytes=MAX_MESSAGE_BYTES, max_requests_per_s=10_000
    )
    gc.collect()  # files that earlier tests left open are not to be closed between two counts
    with structlog.testing.capture_logs() as logs:
        app = Gate(hello, loopback_only=False)
        async with running_site(settings, app=app) as site, site.dashboard() as dashboard:
            await dashboard.ask("subscribe_race", {"raceId": "R1"})
            before = _standing(site)
            async with trio.open_nursery() as watching:
                watching.start_soon(_watch, site, dashboard)
                yield site
                await until(lambda: _standing(site) == (before[0] + 1, *before[1:]))
                watching.cancel_scope.cancel()
            await until(lambda: _standing(site) == before)
            _check(logs)  # says more than the counter
            assert site.dropped("crash") == 0
    _check(logs)


def _check(logs: Sequence[Mapping[str, object]]) -> None:
    for line in logs:
        crash = line.get("exc_info")
        if crash is not None or line["log_level"] == "error":
            raise AssertionError(line) from (crash if isinstance(crash, BaseException) else None)


def tasks() -> int:
    """All that are there, of the whole test."""
    return trio.lowlevel.current_statistics().tasks_living


def _standing(site: Site) -> tuple[float, ...]:
    """Tasks, open files, dashboards (twice), connections that wait for a request."""
    connections = site.metrics.registry.get_sample_value("tracking_ws_connections") or 0.0
    files = len(os.listdir("/proc/self/fd"))
    return tasks(), files, connections, len(site.listener.dashboards), len(site.listener.waiting)


async def _watch(site: Site, dashboard: Dashboard) -> None:
    """Change after change, and each must be seen."""
    number = 0
    while True:
        number += 1
        site.races.change("R1", f"P{number}")
        assert (await dashboard.receive())["data"]["participantId"] == f"P{number}"
        await trio.sleep(0.001)


async def each(attack: Callable[..., Awaitable[None]], *arguments: tuple[object, ...]) -> None:
    """One attack for each of the arguments, side by side, and in time."""
    limit = trio.CapacityLimiter(AT_ONCE)

    async def run(args: tuple[object, ...]) -> None:
        async with limit:
            await attack(*args)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for args in arguments:
                nursery.start_soon(run, args)


async def read_all(stream: trio.abc.Stream) -> bytes:
    """What comes until the server closes, one way or another."""
    received = bytearray()
    try:
        while data := await stream.receive_some(65536):
            received += data
    except trio.BrokenResourceError:
        pass
    return bytes(received)


async def leave(stream: trio.SocketStream, sent: tuple[bytes, ...], ending: str) -> None:
    """Send it all, then end as told; "wait" and "fin" are over when the server has closed."""
    try:
        for part in sent:
            await stream.send_all(part)
        if ending == "reset":
            reset_on_close(stream)
            return
        if ending == "fin":
            await stream.send_eof()
        await read_all(stream)
    except trio.BrokenResourceError:
        pass  # the server had enough
    finally:
        await trio.aclose_forcefully(stream)


class Talker(RawSocket):
    """Opens a WebSocket, then says what it likes and notes what comes back."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.seen: list[Seen] = []

    async def say(self, talk: Talk, head: bytes = b"") -> tuple[Seen, ...]:
        """Open, with another `head` perhaps, and say it: everything that came back, to the end of the connection."""
        assert await self.open(head or request()) == 101
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.write, *talk.sent)
            while len(self.seen) < len(talk.seen) and await self._read():
                pass
        if not (talk.open_frame or self._closed):
            await self.write(close(NORMAL))
        elif talk.open_frame:
            assert isinstance(self.stream, trio.SocketStream)
            await self.stream.send_eof()
        seen = await self.rest()
        polite = seen[-1:] == (NORMAL,) and not (talk.seen and isinstance(talk.seen[-1], int))
        return seen[:-1] if polite else seen

    async def rest(self) -> tuple[Seen, ...]:
        """All that was seen, once the connection has ended."""
        with trio.fail_after(PATIENCE_S):
            while await self._read():
                pass
        return tuple(self.seen)

    @property
    def _closed(self) -> bool:
        return bool(self.seen) and isinstance(self.seen[-1], int)

    async def _read(self) -> bool:
        """Note one more frame; False: there are no more, and nothing came after a close."""
        found = await self.frame()
        if found is None:
            assert not self.unread, "it closed in the middle of a frame"
            return False
        assert not self._closed
        self.seen.append(_understood(*found))
        return True


def _understood(opcode: int, payload: bytes) -> Seen:
    match opcode:
        case websocket.PING:
            return "ping"
        case websocket.PONG:
            return payload
        case websocket.CLOSE:
            return websocket.close_code(payload)
        case websocket.TEXT:
            event = json.loads(payload)
            return str(event["data"]["code"])
    raise AssertionError((hex(opcode), payload))
