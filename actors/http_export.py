"""A whole race as a download: streamed as fast as the client reads, with flat memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote

import structlog
import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from actors.core.export import Formatter
from actors.core.fix import Fix
from actors.errors import StoreMisconfigured, Unavailable

log = structlog.get_logger("http")


Stream = Callable[[], AbstractAsyncContextManager[AsyncIterator[list[Fix]]]]


class ExportResponse(Response):
    """Sends header, chunks, footer.

    Raises Unavailable or StoreMisconfigured while nothing has been sent; later trouble ends the connection without
    the last chunk, which a client sees as a download that failed (RFC 9112 section 8).
    """

    def __init__(self, race_id: str, formatter: Formatter, stream: Stream) -> None:
        super().__init__(media_type=formatter.media_type)
        del self.headers["content-length"]  # of the empty body
        self.headers["Content-Disposition"] = disposition(f"{race_id}.{formatter.extension}")
        self.headers["Cache-Control"] = "no-store"
        self._race_id = race_id
        self._formatter = formatter
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. In one task, so that the database cursor is closed by the same `async with` that opened it."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        started = False
        try:
            async with self._stream() as chunks:
                nothing: list[Fix] = []
                first = await anext(chunks, nothing)
                await send(start)
                started = True
                await self._send_all(first, chunks, receive, send)
        except (Unavailable, StoreMisconfigured) as error:
            if not started:
                raise
            self._cut_short(error)

    async def _send_all(self, first: list[Fix], chunks: AsyncIterator[list[Fix]], receive: Receive, send: Send) -> None:
        """Ends early when the client leaves: a cursor must not be read for nobody."""
        complete = False
        async with trio.open_nursery() as nursery:

            async def leave_with_client() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave_with_client)
            try:
                await _send_piece(send, self._formatter.header() + self._formatter.chunk(first))
                async for fixes in chunks:
                    await _send_piece(send, self._formatter.chunk(fixes))
                complete = True
            except (Unavailable, StoreMisconfigured) as error:  # here, because a nursery would wrap it
                self._cut_short(error)
            nursery.cancel_scope.cancel()
        if complete:
            # Out here, because hypercorn tells a disconnect before the last `send` has tidied the connection up:
            # cancelled in there, it would neither close the connection nor take another request on it.
            await send({"type": "http.response.body", "body": self._formatter.footer()})

    def _cut_short(self, error: Exception) -> None:
        log.warning("export cut short", race_id=self._race_id, why=str(error))


async def _send_piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


def disposition(filename: str) -> str:
    """Content-Disposition with a name for old clients and the true one (RFC 6266 section 4.3, RFC 8187).

    Race ids hold letters, digits and . _ - @ only, so an ASCII name needs no escapes.
    """
    if filename.isascii():
        return f'attachment; filename="{filename}"'
    plain = "".join(character if character.isascii() else "_" for character in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
