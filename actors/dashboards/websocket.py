"""One dashboard's WebSocket: trio-websocket reads frames and keeps the protocol, we write prebuilt frames beside it.

The library's reader runs in a nursery of the caller; pongs are processed only while someone receives:
unless someone always does, a live dashboard is taken for dead. The handshake is ours: of 129 that anybody may send, 18
(a header that is not ASCII, a GET and a reset) ended the whole server of the library, and it can agree on no extension.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import cast

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.extensions import Extension
from wsproto.utilities import LocalProtocolError

from actors.core.errors import TrackingError
from actors.dashboards.extension import PerMessageDeflate
from actors.http.stream import CLOSE_FRAME, ConnectionStream

RECEIVE_BYTES = 4096  # of a dashboard's requests, which are small
LINGER_S = 1.0  # for a client to take our last words

ABNORMAL = 1006  # RFC 6455 section 7.1.5: the connection ended without a close frame; never sent


class Closed(TrackingError):
    """The WebSocket is closed or broken: nothing can be received or sent any more."""

    def __init__(self, code: int = ABNORMAL) -> None:
        super().__init__(f"code {code}")
        self.code = code  # of the close frame, theirs or the library's


@attrs.frozen(eq=False)
class WebSocket:
    """An accepted WebSocket. One task receives, one sends frames, any may ping."""

    stream: ConnectionStream
    connection: WebSocketConnection
    deflated: bool  # it takes compressed frames

    async def receive(self) -> str | bytes:
        """The next whole message. Raises Closed."""
        try:
            message = await self.connection.get_message()
        except ConnectionClosed as error:
            raise Closed(ABNORMAL if error.reason is None else error.reason.code) from None
        self.stream.received_bytes = 0
        return message

    @property
    def unfinished_bytes(self) -> int:
        """What was received since the last whole message."""
        return self.stream.received_bytes

    async def send(self, frames: Sequence[bytes], timeout_s: float) -> None:
        """Whole frames, ready-made. Raises Closed, and trio.TooSlowError when nothing was taken for `timeout_s`."""
        try:
            if not await self.stream.send_prebuilt(frames, timeout_s):
                raise Closed
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Closed from None

    @property
    def ready(self) -> bool:
        """Whether `write_now` may be called."""
        return self.stream.ready

    def write_now(self, frames: Sequence[bytes]) -> None:
        """Whole frames without waiting. When `unsent` then, the rest has to be sent by the next `send`."""
        self.stream.write_now(frames)

    @property
    def unsent(self) -> bool:
        """Whether `write_now` left something that the next `send`, also of nothing, has to send."""
        return bool(self.stream.unsent)

    async def ping(self) -> None:
        """Send a ping, return when its pong came. Has no time limit. Raises Closed."""
        try:
            await self.connection.ping()
        except (ConnectionClosed, LocalProtocolError, trio.ClosedResourceError):
            raise Closed from None

    async def close(self, code: int, reason: str, timeout_s: float) -> None:
        """Say goodbye and wait for the client's, at most `timeout_s`; a broken stream takes no goodbye."""
        with trio.move_on_after(timeout_s), contextlib.suppress(LocalProtocolError, trio.ClosedResourceError):
            await self.connection.aclose(code, reason)

    async def finish(self) -> None:
        """Close the socket, after the library's reader was stopped, in the way that suits how the WebSocket ended."""
        closed = self.connection.closed
        if self.stream.broken or closed is None or closed.code == ABNORMAL:
            await self.stream.drop()
            return
        if not self.stream.close_sent:
            # The library ends a protocol error (1002, 1007) without telling the client why.
            await self.stream.send_last(_close_frame(closed.code), LINGER_S)
        await self.stream.linger(LINGER_S)


async def accept(
    nursery: trio.Nursery, stream: ConnectionStream, answer: bytes, deflated: bool, max_message_bytes: int
) -> WebSocket:
    """`answer` an upgrade that was checked before, and whose head was read; `deflated`: it agrees on compression.

    Raises trio.BrokenResourceError, trio.ClosedResourceError.
    """
    stream.received_bytes = 0  # of requests before this one
    await stream.send_all(answer)
    stream.hold()
    extensions: list[Extension] = [PerMessageDeflate(max_message_bytes)] if deflated else []
    connection = WebSocketConnection(
        stream,
        # The handshake is behind us: of what the library wants here, that half which knows frames.
        cast(WSConnection, Connection(ConnectionType.SERVER, extensions)),
        max_message_size=max_message_bytes,
        receive_buffer_size=RECEIVE_BYTES,
    )
    nursery.start_soon(_read, connection)
    return WebSocket(stream, connection, deflated)


async def _read(connection: WebSocketConnection) -> None:
    # It wants to answer what comes after the close frame went out, which is not allowed, and dies of it
    # (python-trio/trio-websocket#184). Nothing after that frame matters, and `receive` raises Closed once the reader
    # is gone.
    with contextlib.suppress(LocalProtocolError):
        await connection._reader_task()


def _close_frame(code: int) -> bytes:
    return bytes((CLOSE_FRAME, 2)) + code.to_bytes(2, "big")
