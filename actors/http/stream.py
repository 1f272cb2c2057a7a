"""The byte stream under one connection: first bytes can be put back, writes are whole, and it knows when they were not.

trio-websocket writes its pongs and closes to the same socket as we our prebuilt frames: one lock around whole writes
keeps frames apart. A write that did not finish, also one that was cancelled, leaves half a frame: the stream is
`broken` then and takes no more; the connection has to be dropped without a close frame.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

import trio

CHUNK_BYTES = 32 * 1024
"""A long write goes out in pieces of this size: who takes one within the time-out is slow, but alive."""

CLOSE_FRAME = 0x88  # FIN and opcode 8, RFC 6455 section 5.5.1

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)


class ConnectionStream(trio.abc.Stream):
    """A stream around a socket's or TLS stream, with the errors of trio.abc.Stream only."""

    def __init__(self, transport: trio.abc.Stream) -> None:
        self.transport = transport
        self.broken = False  # a write did not finish
        self.close_sent = False  # the WebSocket close frame went out: nothing may follow it
        self.unsent = b""  # of a write without waiting: goes out before anything else, by the next send
        self.received_bytes = 0  # from the socket; whoever reads the number may set it back
        self._put_back = b""
        self._lock = trio.StrictFIFOLock()
        self._held = False
        self._ended = False

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Before anything is read. Raises trio.BrokenResourceError when the client does not speak TLS."""
        # https_compatible: clients close without a TLS goodbye, and so do we.
        tls = trio.SSLStream(self.transport, context, server_side=True, https_compatible=True)
        self.broken = True  # until the end of the handshake nothing can be said
        await tls.do_handshake()
        self.transport, self.broken = tls, False

    def put_back(self, data: bytes) -> None:
        """Give `data` to the next receive, which had it before."""
        self._put_back = data + self._put_back

    async def wait_for_data(self) -> bool:
        """Until something can be received. False: nothing will come any more."""
        if not self._put_back:
            self._put_back = bytes(await self.receive_some(CHUNK_BYTES))
        return bool(self._put_back)

    def hold(self) -> None:
        """From now on `aclose` only ends reading and writing; the socket is closed by `drop` or `linger`.

        trio-websocket closes as soon as it is through, when a last close frame may still have to reach the client.
        """
        self._held = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As trio.abc.ReceiveStream."""
        if self._ended:
            raise trio.ClosedResourceError
        if self._put_back:
            await trio.lowlevel.checkpoint()
            size = max_bytes or len(self._put_back)
            data, self._put_back = self._put_back[:size], self._put_back[size:]
            return data
        received = await self.transport.receive_some(max_bytes)
        self.received_bytes += len(received)
        return received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As trio.abc.SendStream. For trio-websocket: one call is one whole frame."""
        async with self._lock:
            self._check_open()
            await self._send_whole(data)
            self.close_sent = len(data) > 0 and data[0] == CLOSE_FRAME

    async def send_prebuilt(self, frames: Sequence[bytes], timeout_s: float) -> bool:
        """Whole frames in one write. False when the close frame went out before, and these did not.

        Raises trio.TooSlowError when nothing was taken for `timeout_s`, trio.BrokenResourceError when nobody is there.
        """
        with trio.fail_after(timeout_s) as scope:
            async with self._lock:
                self._check_open()
                if self.close_sent:
                    return False
                data = frames[0] if len(frames) == 1 and not self.unsent else b"".join((self.unsent, *frames))
                self.unsent = b""
                if len(data) <= CHUNK_BYTES:
                    await self._send_whole(data)
                else:
                    view = memoryview(data)
                    for start in range(0, len(data), CHUNK_BYTES):
                        scope.deadline = trio.current_time() + timeout_s
                        await self._send_whole(view[start : start + CHUNK_BYTES])
                return True

    @property
    def ready(self) -> bool:
        """Whether `write_now` may be called: a plain socket, nobody is writing, nothing is left over."""
        return (
            isinstance(self.transport, trio.SocketStream)
            and not self._lock.locked()
            and not (self.unsent or self.broken or self._ended or self.close_sent)
        )

    def write_now(self, frames: Sequence[bytes]) -> None:
        """Whole frames without waiting and without a task, when `ready`.

        What the socket has no room for is kept in `unsent`: the caller has to see to a `send_prebuilt` soon.
        """
        assert isinstance(self.transport, trio.SocketStream)
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        try:
            # The number is asked for each time: -1 once the socket is closed, never somebody else's.
            written = os.write(self.transport.socket.fileno(), data)
        except OSError:  # no room, or nobody there: the next send finds out which
            written = 0
        self.unsent = data[written:]

    async def wait_send_all_might_not_block(self) -> None:
        """As trio.abc.SendStream."""
        await self.transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the socket; after `hold`, only end reading and writing."""
        self._ended = True
        if self._held:
            await trio.lowlevel.checkpoint()
        else:
            await self.transport.aclose()

    async def drop(self) -> None:
        """Close the socket at once, without a goodbye."""
        self._ended = True
        await trio.aclose_forcefully(self.transport)

    async def send_last(self, data: bytes, timeout_s: float) -> None:
        """One more write, also after `aclose`; quietly nothing where that is not possible any more."""
        with trio.move_on_after(timeout_s):
            async with self._lock:
                if not self.broken:
                    try:
                        await self._send_whole(data)
                    except trio.BrokenResourceError:
                        return

    async def linger(self, timeout_s: float) -> None:
        """Close so that what was sent arrives: closing with unread input resets the connection, and the client may
        lose our last words (RFC 9112 section 9.6). Ends writing, reads until the client closes or the time is over.
        """
        self._ended = True
        with trio.move_on_after(timeout_s):
            try:
                await _send_eof(self.transport)
                while await self.transport.receive_some(CHUNK_BYTES):
                    pass
            except _GONE:
                pass  # nobody is there: nothing to wait for
        await trio.aclose_forcefully(self.transport)

    def _check_open(self) -> None:
        if self.broken or self._ended:
            raise trio.ClosedResourceError

    async def _send_whole(self, data: bytes | bytearray | memoryview) -> None:
        if self.unsent:
            data, self.unsent = self.unsent + bytes(data), b""
        try:
            await self.transport.send_all(data)
        except BaseException:  # also when cancelled: nobody knows how much went out
            self.broken = True
            raise


async def _send_eof(transport: trio.abc.Stream) -> None:
    if isinstance(transport, trio.SSLStream):
        transport = transport.transport_stream
    if isinstance(transport, trio.abc.HalfCloseableStream):
        await transport.send_eof()
