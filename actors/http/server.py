"""HTTP/1.1 on a connection of the listener: one request to the ASGI application, and its answer back.

The listener reads and judges every head before it comes here, so that any request of a connection may ask for a
WebSocket. h11 keeps the protocol, a new one for each request. What comes behind a request is read while it is being
answered, at most AHEAD_BYTES: that is how a client that has left is noticed, and its answer given up.
"""

from __future__ import annotations

from email.utils import formatdate
from urllib.parse import unquote

import h11
import structlog
import trio
from starlette.types import ASGIApp, Message, Scope

from actors.http.head import HEAD_END
from actors.http.problem import Problem
from actors.http.stream import ConnectionStream

log = structlog.get_logger("http")

SEND_TIMEOUT_S = 10.0  # a client that takes nothing for so long is dropped
LEFT_S = 30.0  # for the answer to a client that has closed its sending side
LINGER_S = 1.0  # for a client to take the end of the last answer
RECEIVE_BYTES = 4096
AHEAD_BYTES = 16 * 1024

_Event = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


async def answer(app: ASGIApp, stream: ConnectionStream, head: bytes, secure: bool) -> bool:
    """Answer the request with this head, the rest of which is in `stream`. True: the next one may be read from there.

    Otherwise the answer was the last one, or was given up. Raises Problem, when nothing of an answer has gone out.
    """
    return await _Exchange(stream, head).run(app, secure)


class _Exchange:
    """One request and its answer, as the `receive` and `send` of ASGI."""

    def __init__(self, stream: ConnectionStream, head: bytes) -> None:
        self._stream = stream
        self._protocol = h11.Connection(h11.SERVER)
        self._protocol.receive_data(head + HEAD_END)
        self._scope = trio.CancelScope()  # around the application
        self._pieces, self._body = trio.open_memory_channel[Message](1)
        self._ahead = bytearray()  # came behind the request
        self._problem: Problem | None = None  # why the application was stopped, when the request is to blame
        self._head_alone = False  # the answer has no body, whatever the application sends
        self._last = False  # nothing more is taken from this connection
        self._start: Message | None = None  # goes out together with the first piece of the body

    async def run(self, app: ASGIApp, secure: bool) -> bool:
        request = self._next()
        assert isinstance(request, h11.Request)
        self._head_alone = request.method == b"HEAD"
        # Where a proxy in front may have gone by the other one, what follows could be anybody's (RFC 9112 section 6.1).
        self._last = {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}
        event = self._next()  # the end at once, when there is no body: the answer must know it
        with self._scope, self._pieces, self._body:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, event)
                try:
                    await app(_scope(request, secure), self._body.receive, self._send)
                except Exception as crash:  # a bug in a route costs that answer only
                    log.error("request crashed", exc_info=crash)
                nursery.cancel_scope.cancel()
        return await self._end()

    async def _end(self) -> bool:
        ours, theirs = self._protocol.our_state, self._protocol.their_state
        if self._problem is not None and ours is h11.SEND_RESPONSE:
            raise self._problem
        if self._scope.cancelled_caught:  # for a client that is gone
            return False
        if ours is h11.SEND_RESPONSE:
            raise Problem(500, "the server made a mistake")
        if ours is h11.DONE and theirs is h11.DONE:
            self._stream.put_back(bytes(self._ahead))
            return True
        if ours in (h11.DONE, h11.MUST_CLOSE):
            await self._stream.linger(LINGER_S)
        return False

    def _next(self) -> _Event:
        """Raises Problem."""
        try:
            return self._protocol.next_event()
        except h11.RemoteProtocolError as error:
            # Without h11's own text: it may quote the request.
            message = "length or coding of the request body is malformed"
            raise Problem(error.error_status_hint, message, "bad_request") from None

    async def _read(self, event: _Event) -> None:
        """The body for the application; then what comes behind it."""
        try:
            while not isinstance(event, h11.EndOfMessage):
                if isinstance(event, h11.Data):
                    await self._pieces.send({"type": "http.request", "body": bytes(event.data), "more_body": True})
                else:
                    if self._protocol.they_are_waiting_for_100_continue:
                        await self._write(self._protocol.send(h11.InformationalResponse(status_code=100, headers=[])))
                    self._protocol.receive_data(bytes(await self._stream.receive_some(RECEIVE_BYTES)))
                event = self._next()
            await self._pieces.send({"type": "http.request", "body": b"", "more_body": False})
            self._ahead += self._protocol.trailing_data[0]
            while len(self._ahead) < AHEAD_BYTES:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:  # it may have said its last word, and wait for the answer
                    self._scope.deadline = trio.current_time() + LEFT_S
                    return
                self._ahead += data
        except Problem as problem:
            self._problem = problem
            self._scope.cancel()
        except _GONE:
            self._scope.cancel()

    async def _send(self, message: Message) -> None:
        """ASGI. For a client that is gone there is no error: the application is cancelled."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        parts: list[bytes] = []
        if self._start is not None:
            parts.append(self._protocol.send(self._response(self._start)))
            self._head_alone = self._head_alone or self._start["status"] in (204, 304)
            self._start = None
        body = message.get("body", b"")
        if body and not self._head_alone:
            parts.append(self._protocol.send(h11.Data(data=body)))
        if not message.get("more_body", False):
            parts.append(self._protocol.send(h11.EndOfMessage()))
        await self._write(*parts)

    def _response(self, start: Message) -> h11.Response:
        headers = [*start.get("headers", ()), (b"date", formatdate(usegmt=True).encode("ascii"))]
        if self._last or self._protocol.their_state is h11.SEND_BODY:  # nobody wants the rest of the body
            headers.append((b"connection", b"close"))
        return h11.Response(status_code=start["status"], headers=headers)

    async def _write(self, *parts: bytes) -> None:
        try:
            await self._stream.send_prebuilt(parts, SEND_TIMEOUT_S)
        except _GONE:
            self._scope.cancel()
            await trio.lowlevel.checkpoint()


def _scope(request: h11.Request, secure: bool) -> Scope:
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version.decode("ascii"),
        "method": request.method.decode("ascii"),
        "scheme": "https" if secure else "http",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers),
        "client": None,
        "server": None,
    }
