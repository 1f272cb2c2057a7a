"""The ports: every TCP connection starts here and becomes a dashboard, an HTTP connection, or a refusal.

Owns: the listening sockets, the connections, the dashboards under them.
Takes in: connections. Sends out: dashboards' subscriptions to races; HTTP as bytes to a Unix socket.
A crash closes all connections; dashboards connect again. What one connection does never ends another.
Stops within STOP_S: no new connections, dashboards are flushed and closed with 1001 side by side.
"""

from __future__ import annotations

import errno
import math
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import attrs
import structlog
import trio

from actors.access import Access, Grant
from actors.core.head import HEAD_END, without_upgrade
from actors.core.once import OncePerSecond
from actors.core.queries import History
from actors.drivers import websocket
from actors.drivers.splice import splice
from actors.drivers.stream import ConnectionStream
from actors.errors import CloseCode, NotStarted, Unavailable
from actors.handshake import Admitted, Refused, busy, judge, read_head, understand
from actors.health import Health
from actors.metrics import Metrics
from actors.settings import Settings
from actors.subscriber import GONE, Ending, Races, Subscriber

log = structlog.get_logger("listener")

STOP_S = 3.0  # from the cancellation to the last closed dashboard
CLOSE_S = 1.0  # for a dashboard to answer our close frame
LINGER_S = 1.0  # for a refused client to read why
ACCEPT_PAUSE_S = 0.1  # after running out of file descriptors or memory
HEARTBEAT_SLOTS = 20  # dashboards are pinged in this many groups, so that 10,000 pings do not go out at once
FULL = "too many dashboards"
MAX_REFUSALS = 100  # refused connections that still linger; beyond it the close may overtake the answer

ADVICE = {
    errno.EADDRINUSE: "stop what uses it, or set other ports, [app] port and [ws] port (PORT=3001 WS_PORT=3001)",
    errno.EACCES: "set [app] port and [ws] port to 1024 or above (PORT=3001 WS_PORT=3001)",
}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_LEFT = (trio.BrokenResourceError, trio.ClosedResourceError, websocket.Closed)


@attrs.define(eq=False)
class Listener:
    """The actor."""

    settings: Settings
    access: Access
    races: Races
    history: History
    metrics: Metrics
    health: Health
    clock: Callable[[], int]  # Unix ms
    http_socket_path: Path  # where HTTP is served
    ssl_context: ssl.SSLContext | None = None  # None = plain
    dashboards: set[Subscriber] = attrs.field(factory=set, init=False)
    handshakes: int = attrs.field(default=0, init=False)  # at most max_handshakes
    _refusals: int = attrs.field(default=0, init=False)  # at most MAX_REFUSALS
    _connected: int = attrs.field(default=0, init=False)  # dashboards, also those that come or go: max_connections
    _empty: trio.Event | None = attrs.field(default=None, init=False)  # there while stopping; set: no dashboard is left
    _slots: list[set[Subscriber]] = attrs.field(init=False)
    _complaints: OncePerSecond = attrs.field(factory=OncePerSecond, init=False)

    async def run(self, *, task_status: trio.TaskStatus[list[int]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` gives the bound ports. Raises NotStarted when a port cannot be had."""
        self._empty = None
        self._slots = [set() for _ in range(HEARTBEAT_SLOTS)]
        ports = list(dict.fromkeys((self.settings.ws.port, self.settings.app.port)))
        listeners = [listener for port in ports for listener in await self._listen(port)]
        over = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                connections: trio.Nursery = await nursery.start(self._hold_connections, over)
                try:
                    for listener in listeners:
                        nursery.start_soon(self._accept, listener, connections)
                    nursery.start_soon(self._beat)
                    self.health.up("websocket")
                    task_status.started([listener.socket.getsockname()[1] for listener in listeners])
                    await trio.sleep_forever()
                finally:
                    over.set()
        finally:
            self.health.stopped("websocket")
            for listener in listeners:
                listener.socket.close()

    async def _listen(self, port: int) -> list[trio.SocketListener]:
        host = self.settings.ws.host
        try:
            return await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            advice = ADVICE.get(error.errno or 0, "set another [ws] host")
            raise NotStarted(f"cannot listen on {host} port {port} ({error.strerror or error}): {advice}") from error

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
                    dashboard.end("shutting_down", CloseCode.GOING_AWAY)
                if self.dashboards:
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
                        dashboard.end("token_expired", CloseCode.TOKEN_EXPIRED)
                    dashboard.heartbeat()

    async def _guard(self, transport: trio.SocketStream) -> None:
        """Whatever happens in one connection stays there."""
        try:
            await self._connection(transport)
        except* _LEFT:
            pass  # the client left in the middle
        except* Exception as crash:
            self._count("crash")
            log.error("connection crashed", exc_info=crash)
        finally:
            await trio.aclose_forcefully(transport)

    async def _connection(self, transport: trio.SocketStream) -> None:
        stream = ConnectionStream(transport)
        try:
            opening = await self._open(stream)
            if opening is None:
                return
            admitted, head, rest = opening
            if admitted is None:
                await splice(stream, without_upgrade(head) + HEAD_END + rest, self.http_socket_path)
            else:
                await self._dashboard(stream, admitted, rest)
        except Unavailable as error:
            await self._refuse(stream, busy(str(error)))
        except Refused as refused:
            # Whoever asks why its WebSocket does not open: a handshake would have come so far, and no further.
            full = refused.status is HTTPStatus.UPGRADE_REQUIRED and self._full
            await self._refuse(stream, busy(FULL) if full else refused)

    async def _open(self, stream: ConnectionStream) -> tuple[Admitted | None, bytes, bytes] | None:
        """Who is there: admitted or HTTP, with the head and what came after it; None: nobody. Raises Refused."""
        ws, secure = self.settings.ws, self.ssl_context is not None
        if self.handshakes >= ws.max_handshakes:
            raise busy("too many handshakes at once")
        self.handshakes += 1
        try:
            with trio.fail_after(ws.handshake_timeout_s):
                if self.ssl_context is not None:
                    await stream.start_tls(self.ssl_context)
                received = await read_head(stream)
        except trio.TooSlowError:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "timeout", "the request did not come in time") from None
        finally:
            self.handshakes -= 1
        if received is None:
            return None
        head, rest = received
        return judge(understand(head), ws, self.access, secure, self.clock() / 1000), head, rest

    async def _refuse(self, stream: ConnectionStream, refused: Refused) -> None:
        self._count(refused.code)
        if self._refusals >= MAX_REFUSALS:
            if stream.ready:
                stream.write_now([refused.response()])
            return
        self._refusals += 1
        try:
            await stream.send_last(refused.response(), LINGER_S)
            await stream.linger(LINGER_S)
        finally:
            self._refusals -= 1

    # --- dashboards ---

    @property
    def _full(self) -> bool:
        return self._connected >= self.settings.ws.max_connections or self._empty is not None

    async def _dashboard(self, stream: ConnectionStream, admitted: Admitted, rest: bytes) -> None:
        ws = self.settings.ws
        if self._full:
            raise busy(FULL)
        self._connected += 1
        self.metrics.ws_connections.set(self._connected)
        try:
            # Holds the library's reader, which is still needed to say goodbye when the subscriber has ended.
            async with trio.open_nursery() as nursery:
                with trio.fail_after(ws.handshake_timeout_s):
                    socket = await websocket.accept(nursery, stream, admitted.upgrade, rest, ws.max_message_bytes)
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
        ending = Ending("crash", CloseCode.INTERNAL_ERROR)
        try:
            try:
                ending = await dashboard.run()
            except* Exception as crash:
                log.error("dashboard crashed", exc_info=crash)
            if ending.reason != GONE:
                self._count(ending.reason)
            await _part(dashboard, socket, ending)
        finally:
            slot.discard(dashboard)
            self.dashboards.discard(dashboard)
            if self._empty is not None and not self.dashboards:
                self._empty.set()

    def _count(self, reason: str) -> None:
        self.metrics.ws_dropped.labels(reason=reason).inc()

    def _complain(self, text: str, **values: object) -> None:
        if self._complaints.allows(text, trio.current_time()):
            log.error(text, suppressed=self._complaints.take_suppressed(text), **values)


async def _part(dashboard: Subscriber, socket: websocket.WebSocket, ending: Ending) -> None:
    """Say goodbye where the ending has a code; what was pending still goes out when the daemon stops."""
    if ending.code is None:
        return
    if ending.code is CloseCode.GOING_AWAY:
        with trio.move_on_after(CLOSE_S):
            try:
                await dashboard.flush()
            except (websocket.Closed, trio.TooSlowError):
                return
    await socket.close(ending.code, ending.reason, CLOSE_S)
