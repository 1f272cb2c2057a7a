"""Bytes of one connection carried to another and back: how HTTP reaches hypercorn (DESIGN rule 18)."""

from __future__ import annotations

from pathlib import Path

import trio

from actors.drivers.stream import ConnectionStream
from actors.errors import Unavailable

PIECE_BYTES = 64 * 1024

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


async def splice(stream: ConnectionStream, first: bytes, socket_path: Path) -> None:
    """Send `first` to the Unix socket and carry both ways until the server is done or somebody is gone.

    Raises Unavailable when nobody listens there; nothing was sent to the client then.
    """
    try:
        server = await trio.open_unix_socket(socket_path)
    except OSError as error:
        raise Unavailable(f"HTTP is not served: {error.strerror}") from None
    async with server, trio.open_nursery() as nursery:
        nursery.start_soon(_carry_requests, stream, first, server)
        try:
            while data := await server.receive_some(PIECE_BYTES):
                await stream.send_all(data)
        except _GONE:
            pass  # either side left in the middle: nothing more to carry
        nursery.cancel_scope.cancel()


async def _carry_requests(stream: ConnectionStream, first: bytes, server: trio.SocketStream) -> None:
    try:
        data: bytes | bytearray = first
        while data:
            await server.send_all(data)
            data = await stream.receive_some(PIECE_BYTES)
        await server.send_eof()  # a client may end its side and still wait for the answer
    except _GONE:
        # The server ends once it sees that its client is gone.
        await trio.aclose_forcefully(server)
