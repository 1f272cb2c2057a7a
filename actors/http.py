"""HTTP, behind the listener: hypercorn's protocol on a Unix socket in data_dir, mode 0600.

Owns: the socket and its connections. Takes in: connections that the listener splices. Sends out: what `app` answers.
A crash loses the answers under way; a restart listens anew. Stops within STOP_S: idle connections close at once,
answers under way may finish in that time.

hypercorn's `serve` is not used: an exception that one connection's bytes cause in its protocol code ends the server
for all (a non-ASCII Sec-WebSocket-Protocol does), and it shields its sends, so that one client which stops reading
an export could keep it from stopping. Here each connection is run by hypercorn's TCPServer on a stream of ours.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from starlette.types import ASGIApp

from actors.core.once import OncePerSecond
from actors.unix_socket import listen, remove

log = structlog.get_logger("http")

STOP_S = 1.5  # from the cancellation to the end of the last answer
KEEP_ALIVE_S = 60.0  # an idle connection; also the most that a request head may take
SEND_TIMEOUT_S = 10.0  # a client that takes nothing for so long is dropped
PIECE_BYTES = 64 * 1024  # what a client has to take within SEND_TIMEOUT_S
MAX_HEAD_BYTES = 16 * 1024
LEFT_S = 30.0  # for the answer to a client that has closed its sending side
_SWITCHING = b"HTTP/1.1 101"


def hypercorn_config() -> Config:
    """hypercorn's settings: no access log (a query may hold a token), errors to `logging`, no Server header."""
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.h2_max_concurrent_streams = 10
    return config


class PatientStream(trio.abc.HalfCloseableStream):
    """Sends in pieces, each within `timeout_s`; what a client does not take breaks the connection, not the server.

    hypercorn shields its sends from cancellation, so the deadline is inside, and `end_by` can bring it forward.
    It would also keep a connection for the whole of KEEP_ALIVE_S after its client has left, one that speaks HTTP/2 for
    ever. So `context` belongs to this connection alone: its `terminated` tells hypercorn to begin nothing more on it;
    and `scope`, around all of it, gives a client that said its last word LEFT_S for the answer.
    """

    def __init__(self, stream: trio.SocketStream, timeout_s: float) -> None:
        self.socket = stream.socket  # hypercorn asks it for the addresses
        self.context = WorkerContext(None)
        self.scope = trio.CancelScope()
        self._stream = stream
        self._timeout_s = timeout_s
        self._end_s = math.inf  # trio's clock
        self._sending = trio.CancelScope()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As trio's. Raises BrokenResourceError when the time is up."""
        if (
            data[: len(_SWITCHING)] == _SWITCHING
        ):  # hypercorn would go on in HTTP/2, with too many ways to stay for ever
            self.scope.cancel()
            raise trio.BrokenResourceError("no protocol but HTTP/1.1 is spoken here")
        view = memoryview(data)
        for start in range(0, len(view) or 1, PIECE_BYTES):
            self._sending = trio.CancelScope(deadline=min(trio.current_time() + self._timeout_s, self._end_s))
            with self._sending:
                await self._stream.send_all(view[start : start + PIECE_BYTES])
            if self._sending.cancelled_caught:
                await trio.aclose_forcefully(self)
                raise trio.BrokenResourceError("the client takes nothing")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As trio's."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self.scope.cancel()
            raise
        if not data:
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + LEFT_S)
            await self.context.terminated.set()
        return data

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def end_by(self, deadline_s: float) -> None:
        """Finish the answer under way, and send nothing after the deadline. Has no checkpoint."""
        await self.context.terminated.set()
        self._end_s = deadline_s
        self._sending.deadline = min(self._sending.deadline, deadline_s)


@attrs.define(eq=False)
class HttpServer:
    """The actor."""

    app: ASGIApp
    socket_path: Path  # at most 107 bytes; its folder belongs to this daemon
    send_timeout_s: float = SEND_TIMEOUT_S
    _config: Config = attrs.field(factory=hypercorn_config, init=False)
    _streams: set[PatientStream] = attrs.field(factory=set, init=False)  # the connections that are open
    _complaints: OncePerSecond = attrs.field(factory=OncePerSecond, init=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises NotStarted when the socket cannot be made."""
        listener = listen(self.socket_path)
        async with trio.open_nursery() as nursery:
            stop = trio.Event()
            try:
                connections: trio.Nursery = await nursery.start(self._hold_connections, stop)
                accept = partial(trio.serve_listeners, self._serve, [listener], handler_nursery=connections)
                await nursery.start(accept)
                task_status.started()
                await trio.sleep_forever()
            finally:
                for stream in self._streams:
                    await stream.end_by(trio.current_time() + STOP_S)
                stop.set()
                remove(self.socket_path)

    async def _hold_connections(self, stop: trio.Event, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """The nursery of the connections: outlives the cancellation by STOP_S."""
        async with trio.open_nursery() as connections:
            connections.cancel_scope.shield = True
            task_status.started(connections)
            await stop.wait()
            connections.cancel_scope.deadline = trio.current_time() + STOP_S

    async def _serve(self, socket_stream: trio.SocketStream) -> None:
        stream = PatientStream(socket_stream, self.send_timeout_s)
        self._streams.add(stream)
        app = ASGIWrapper(cast(ASGIFramework, self.app))
        try:
            # hypercorn's annotations say TLS and a plain dict; its code asks the stream which it is.
            with stream.scope:
                await TCPServer(app, self._config, stream.context, {}, cast(Any, stream))
        except* Exception as group:  # noqa: BLE001 the accept loop: one connection must not end the others
            self._complain(group)
        finally:
            self._streams.discard(stream)
            await trio.aclose_forcefully(stream)

    def _complain(self, group: BaseExceptionGroup[Exception]) -> None:
        crash: BaseException = group
        while isinstance(crash, BaseExceptionGroup):
            crash = crash.exceptions[0]
        kind = type(crash).__name__
        if self._complaints.allows(kind, trio.current_time()):
            held_back = self._complaints.take_suppressed(kind)
            log.warning("connection ended by an error in its protocol", error=kind, suppressed=held_back)
