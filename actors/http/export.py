"""A whole race as a download: streamed as fast as the client reads, with flat memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from actors.core.errors import StoreMisconfigured, Unavailable
from actors.core.fix import Fix
from actors.history.export import Formatter

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
                await _send_piece(send, self._formatter.header() + self._formatter.chunk(first))
                async for fixes in chunks:
                    await _send_piece(send, self._formatter.chunk(fixes))
            await send({"type": "http.response.body", "body": self._formatter.footer()})
        except (Unavailable, StoreMisconfigured) as error:
            if not started:
                raise
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
