"""For tests of the listener and its dashboards: races and a history without servers, a listener on a free port."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import trio
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.core.fix import Fix
from actors.core.position import position_json
from actors.dashboards import events
from actors.dashboards.frames import Frame, sliced
from actors.dashboards.listener import Listener
from actors.dashboards.outbox import Outbox
from actors.history.queries import HistoryPage, HistoryQuery, RaceSummary, StoredRejection
from actors.http.access import Access
from actors.settings.load import Settings
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.kit.client import WITHIN_S, Dashboard, dashboard
from tests.kit.tokens import SECRET

NOW_MS = 1_751_357_730_000


def make_fix(participant_id: str = "P001", race_id: str = "R1", timestamp_ms: int = NOW_MS) -> Fix:
    """A fix at the place of the contract's example."""
    return Fix(race_id, participant_id, -79_456_000, 1_126_145_000, timestamp_ms, 0, timestamp_ms + 512, bytes(16))


def wall_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000


@attrs.define(eq=False)
class FakeRaces:
    """The directory without actors: answers at once, unless told to be silent."""

    outboxes: dict[str, dict[Outbox, None]] = attrs.field(factory=dict)
    calls: list[tuple[object, ...]] = attrs.field(factory=list)
    positions: bytes = b""  # of every snapshot
    silent: bool = False
    refusing: bool = False

    def subscribe(
        self, race_id: str, outbox: Outbox, request_id: str | int | None = None, resync: bool = False
    ) -> None:
        self.calls.append(("subscribe", race_id, request_id, resync))
        if self.refusing:
            outbox.refuse(race_id, Frame(events.error_event("unavailable", "no", request_id)))
        elif not self.silent:
            self.outboxes.setdefault(race_id, {})[outbox] = None
            event = events.snapshot_event(race_id, sliced(self.positions), NOW_MS, request_id, resync)
            outbox.snapshot(race_id, Frame(*event), resync_s=trio.current_time() if resync else None)

    def unsubscribe(self, race_id: str, outbox: Outbox) -> None:
        self.calls.append(("unsubscribe", race_id))
        self.outboxes.get(race_id, {}).pop(outbox, None)

    def change(self, race_id: str, participant_id: str = "P001", padding: int = 0) -> None:
        """A changed position to every dashboard of the race."""
        event = events.update_event(position_json(make_fix(participant_id, race_id), stale=False))
        frame = Frame(event + b" " * padding)
        for outbox in self.outboxes.get(race_id, {}):
            outbox.update(race_id, frame)


@attrs.define(eq=False)
class FakeHistory:
    """Answers with what it was given; raises `trouble`; waits for `gate`."""

    pages: list[HistoryPage] = attrs.field(factory=list)
    summaries: list[RaceSummary] = attrs.field(factory=list)
    queries: list[object] = attrs.field(factory=list)
    trouble: Exception | None = None
    gate: trio.Event | None = None

    async def history(self, query: HistoryQuery) -> HistoryPage:
        self.queries.append(query)
        await self._wait()
        return self.pages.pop(0) if self.pages else HistoryPage((), None)

    async def races(self, allowed: Sequence[str] | None = None, limit: int = 1000) -> list[RaceSummary]:
        self.queries.append(None if allowed is None else sorted(allowed))
        await self._wait()
        return self.summaries

    async def _wait(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]:
        raise AssertionError

    def stream(
        self, query: HistoryQuery, by_participant: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Fix]]]:
        raise AssertionError

    async def rejections(
        self, *, race_id: str | None = None, code: str | None = None, limit: int = 100
    ) -> list[StoredRejection]:
        raise AssertionError


def ws_settings(**ws: Any) -> Settings:
    """The defaults with some [ws] keys changed, on a free port."""
    settings = Settings()
    return attrs.evolve(
        settings, ws=attrs.evolve(settings.ws, **{"port": 0, **ws}), app=attrs.evolve(settings.app, port=0)
    )


@attrs.define(eq=False)
class Site:
    """A listener that runs, and everything around it."""

    listener: Listener
    races: FakeRaces
    metrics: Metrics
    port: int
    scope: trio.CancelScope
    stopped: trio.Event = attrs.field(factory=trio.Event)

    def dropped(self, reason: str) -> float:
        """tracking_ws_dropped_total{reason}."""
        value = self.metrics.registry.get_sample_value("tracking_ws_dropped_total", {"reason": reason})
        return value or 0.0

    async def raw(self) -> trio.SocketStream:
        """A TCP connection."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    def dashboard(self) -> AbstractAsyncContextManager[Dashboard]:
        """A client, with a token for all races."""
        return dashboard(self.port)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """All of HTTP, as far as the listener's tests need it."""
    await PlainTextResponse("hello")(scope, receive, send)


@asynccontextmanager
async def running_site(
    settings: Settings | None = None,
    *,
    server_tls: ssl.SSLContext | None = None,
    app: ASGIApp = hello,
) -> AsyncIterator[Site]:
    """A listener on a free port of 127.0.0.1; stopped at the end."""
    metrics, races = Metrics(), FakeRaces()
    settings = settings or ws_settings()
    listener = Listener(
        settings,
        Access(SECRET.encode(), settings.ws.auth == "token", settings.ws.cors_origin),
        races,
        FakeHistory(),
        metrics,
        Health(metrics),
        wall_ms,
        app,
        server_tls,
    )
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        stopped = trio.Event()

        async def run(*, task_status: trio.TaskStatus[list[int]]) -> None:
            try:
                with scope:
                    await listener.run(task_status=task_status)
            finally:
                stopped.set()

        ports: list[int] = await nursery.start(run)
        yield Site(listener, races, metrics, ports[0], scope, stopped)
        scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Real sockets have no event for what happens at their other end."""
    with trio.fail_after(WITHIN_S):
        while not condition():
            await trio.sleep(0.01)
