"""The ports: every request of a TCP connection starts here and becomes a dashboard, an answer of HTTP, or a refusal.

Owns: the listening sockets, the connections, the dashboards under them.
Takes in: connections. Sends out: dashboards' subscriptions to races; other requests to the HTTP application.
A crash closes all connections; dashboards connect again. What one connection does never ends another.
Stops within STOP_S: no new connections, dashboards are flushed and closed with 1001 side by side, answers end.
"""

from __future__ import annotations

import errno
import math
import ssl
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

import attrs
import structlog
import trio
from starlette.types import ASGIApp

from actors.dashboards import websocket
from actors.dashboards.endings import End
from actors.dashboards.handshake import Admitted, admit, last_answer, read_head, understand
from actors.dashboards.ports import open_ports
from actors.dashboards.subscriber import Races, Subscriber
from actors.dashboards.waiting import Waiting
from actors.history.queries import History
from actors.http.access import Access, Grant
from actors.http.problem import Problem, unavailable
from actors.http.server import answer
from actors.http.stream import ConnectionStream
from actors.settings.load import Settings
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from actors.telemetry.once import OncePerSecond

log = structlog.get_logger("listener")

STOP_S = 3.0  # from the cancellation to the last closed dashboard
CLOSE_S = 1.0  # for a dashboard to answer our close frame
KEEP_ALIVE_S = 75.0  # between two requests; longer than nginx keeps an idle connection, so that it is not ours to close
LINGER_S = 1.0  # for a refused client to read why
ACCEPT_PAUSE_S = 0.1  # after running out of file descriptors or memory
HEARTBEAT_SLOTS = 20  # dashboards are pinged in this many groups, so that 10,000 pings do not go out at once
FULL = "too many dashboards"
MAX_REFUSALS = 100  # refused connections that still linger; beyond it the close may overtake the answer

# What settings, tokens or limits are to blame for, and no browser tells its page; the rest is noise from strangers.
TOLD = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_LEFT = (trio.BrokenResourceError, trio.ClosedResourceError, websocket.Closed)


@attrs.define(eq=False)
class Listener:
    """Owns the listening sockets, and the connections and dashboards under them."""

    settings: Settings
    access: Access
    races: Races
    history: History
    metrics: Metrics
    health: Health
    clock: Callable[[], int]  # Unix ms
    app: ASGIApp  # what is no dashboard
    ssl_context: ssl.SSLContext | None = None  # None = plain
    dashboards: set[Subscriber] = attrs.field(factory=set, init=False)
    waiting: Waiting = attrs.field(init=False)  # for a request
    _answers: int = attrs.field(default=0, init=False)  # of HTTP, under way
    _refusals: int = attrs.field(default=0, init=False)  # at most MAX_REFUSALS
    _connected: int = attrs.field(default=0, init=False)  # dashboards, also those that come or go: max_connections
    _empty: trio.Event | None = attrs.field(default=None, init=False)  # there while stopping; set: nobody is served
    _slots: list[set[Subscriber]] = attrs.field(init=False)
    _complaints: OncePerSecond = attrs.field(factory=OncePerSecond, init=False)

    def __attrs_post_init__(self) -> None:
        self.waiting = Waiting(self.settings.ws.max_handshakes)

    async def run(self, *, task_status: trio.TaskStatus[list[int]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` gives the bound ports. Raises NotStarted when a port cannot be had."""
        self._empty = None
        self._slots = [set() for _ in range(HEARTBEAT_SLOTS)]
        ws = self.settings.ws
        listeners = await open_ports(ws.host, (ws.port, self.settings.app.port))
        over = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                connections: trio.Nursery = await nursery.start(self._hold_connections, over)
                try:
                    for listener in listeners:
                        nursery.start_soon(self._accept, listener, connections)
                    nursery.start_soon(self._beat)
                    self.health.up("websocket")
                    task_status.started(list(dict.fromkeys(each.socket.getsockname()[1] for each in listeners)))
                    await trio.sleep_forever()
                finally:
                    over.set()
        finally:
            self.health.stopped("websocket")
            for listener in listeners:
                listener.socket.close()

    async def _hold_connections(
        self, over: trio.Event, *, task_status: trio.TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The nursery of all connections, which outlives the cancellation of the actor until they are closed."""
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as connections:
                task_status.started(connections)
                await over.wait()
                scope.deadline = trio.current_time() + STOP_S
                self._empty = trio.Event()
                for dashboard in self.dashboards:
                    dashboard.end(End.SHUTTING_DOWN)
                self._tell_when_empty()
                await self._empty.wait()
                connections.cancel_scope.cancel()

    async def _accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        while True:
            try:
                transport = await listener.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._complain("cannot accept a connection", error=error.strerror)
                await trio.sleep(ACCEPT_PAUSE_S)
            else:
                connections.start_soon(self._guard, transport)

    async def _beat(self) -> None:
        """The heartbeat of all dashboards, one task for all: an idle dashboard costs no timer of its own."""
        while True:
            for slot in self._slots:
                await trio.sleep(self.settings.ws.heartbeat_s / HEARTBEAT_SLOTS)
                now_s = self.clock() / 1000
                for dashboard in list(slot):
                    # The dashboard ends by a timer of its own; but the wall clock may have been set since then.
                    if (dashboard.grant.expires_s or math.inf) <= now_s:
                        dashboard.end(End.TOKEN_EXPIRED)
                    dashboard.heartbeat()

    async def _guard(self, transport: trio.SocketStream) -> None:
        """Whatever happens in one connection stays there."""
        try:
            await self._connection(transport)
        except* _LEFT:
            pass  # the client left in the middle
        except* Exception as crash:
            self._count(End.CRASH.reason)
            log.error("connection crashed", exc_info=crash)
        finally:
            await trio.aclose_forcefully(transport)

    async def _connection(self, transport: trio.SocketStream) -> None:
        stream = ConnectionStream(transport)
        try:
            head = await self._first_head(stream)
            while head is not None and await self._request(stream, head):
                head = await self._later_head(stream)
        except Problem as problem:
            # Whoever asks why its WebSocket does not open: a handshake would have come so far, and no further.
            full = problem.status == HTTPStatus.UPGRADE_REQUIRED and self._full
            await self._refuse(stream, unavailable(FULL) if full else problem)

    async def _first_head(self, stream: ConnectionStream) -> bytes | None:
        """None: the client left. Raises Problem."""
        with self.waiting.for_head(self.settings.ws.handshake_timeout_s):
            if self.ssl_context is not None:
                await stream.start_tls(self.ssl_context)
            return await read_head(stream)

    async def _later_head(self, stream: ConnectionStream) -> bytes | None:
        """The same, but nobody has asked for it yet: who waits in vain hears nothing."""
        arrived = False
        with suppress(Problem), self.waiting.idle(KEEP_ALIVE_S):
            arrived = await stream.wait_for_data()
        if not arrived:
            return None
        with self.waiting.for_head(self.settings.ws.handshake_timeout_s):
            return await read_head(stream)

    async def _request(self, stream: ConnectionStream, head: bytes) -> bool:
        """Serve it. True: another one may come. Raises Problem."""
        secure = self.ssl_context is not None
        admitted = admit(understand(head), self.settings.ws, self.access, secure, self.clock() / 1000)
        if admitted is not None:
            if self.waiting.full:
                raise unavailable("too many handshakes at once")
            await self._dashboard(stream, admitted)
            return False
        self._answers += 1
        try:
            return await answer(self.app, stream, head, secure)
        finally:
            self._answers -= 1
            self._tell_when_empty()

    async def _refuse(self, stream: ConnectionStream, problem: Problem) -> None:
        self._count(problem.code)
        if problem.status in TOLD and self._complaints.allows(problem.message, trio.current_time()):
            held_back = self._complaints.take_suppressed(problem.message)
            log.info("connection refused", status=problem.status, reason=problem.message, suppressed=held_back)
        if stream.broken:
            return
        if self._refusals >= MAX_REFUSALS:
            if stream.ready:
                stream.write_now([last_answer(problem)])
            return
        self._refusals += 1
        try:
            await stream.send_last(last_answer(problem), LINGER_S)
            await stream.linger(LINGER_S)
        finally:
            self._refusals -= 1

    # --- dashboards ---

    @property
    def _full(self) -> bool:
        return self._connected >= self.settings.ws.max_connections or self._empty is not None

    async def _dashboard(self, stream: ConnectionStream, admitted: Admitted) -> None:
        ws = self.settings.ws
        if self._full:
            raise unavailable(FULL)
        self._connected += 1
        self.metrics.ws_connections.set(self._connected)
        try:
            # Holds the library's reader, which is still needed to say goodbye when the subscriber has ended.
            async with trio.open_nursery() as nursery:
                with trio.fail_after(ws.handshake_timeout_s):
                    socket = await websocket.accept(
                        nursery, stream, admitted.answer(), admitted.extensions is not None, ws.max_message_bytes
                    )
                await self._serve(socket, admitted.grant)
                nursery.cancel_scope.cancel()
            await socket.finish()
        finally:
            self._connected -= 1
            self.metrics.ws_connections.set(self._connected)

    async def _serve(self, socket: websocket.WebSocket, grant: Grant) -> None:
        dashboard = Subscriber(
            socket,
            grant,
            self.settings.ws,
            self.races,
            self.history,
            self.metrics,
            lifetime_s=math.inf if grant.expires_s is None else grant.expires_s - self.clock() / 1000,
        )
        slot = min(self._slots, key=len)
        slot.add(dashboard)
        self.dashboards.add(dashboard)
        ending = End.CRASH
        try:
            try:
                ending = await dashboard.run()
            except* Exception as crash:
                log.error("dashboard crashed", exc_info=crash)
            if ending.reason:
                self._count(ending.reason)
            await _part(dashboard, socket, ending)
        finally:
            slot.discard(dashboard)
            self.dashboards.discard(dashboard)
            self._tell_when_empty()

    def _tell_when_empty(self) -> None:
        if self._empty is not None and not self.dashboards and not self._answers:
            self._empty.set()

    def _count(self, reason: str) -> None:
        self.metrics.ws_dropped.labels(reason=reason).inc()

    def _complain(self, text: str, **values: object) -> None:
        if self._complaints.allows(text, trio.current_time()):
            log.error(text, suppressed=self._complaints.take_suppressed(text), **values)


async def _part(dashboard: Subscriber, socket: websocket.WebSocket, ending: End) -> None:
    """Say goodbye where the ending has a code; what was pending still goes out when the daemon stops."""
    if ending.code is None:
        return
    if ending is End.SHUTTING_DOWN:
        with trio.move_on_after(CLOSE_S):
            try:
                await dashboard.flush()
            except (websocket.Closed, trio.TooSlowError):
                return
    await socket.close(ending.code, ending.reason, CLOSE_S)
