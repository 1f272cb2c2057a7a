"""A file that does not change while the daemon runs, served from memory: packed once, no thread, 304 for who has it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping

import attrs
from starlette.requests import Request
from starlette.responses import Response


def _packed(file: File) -> bytes:
    return gzip.compress(file.body, mtime=0)


def _etag(file: File) -> str:
    return f'W/"{hashlib.blake2b(file.body, digest_size=12).hexdigest()}"'


@attrs.frozen
class File:
    """One file, ready to be sent."""

    body: bytes
    media_type: str
    headers: Mapping[str, str] = attrs.field(factory=dict)
    packed: bytes = attrs.field(init=False, default=attrs.Factory(_packed, takes_self=True))  # gzip: about a third
    etag: str = attrs.field(init=False, default=attrs.Factory(_etag, takes_self=True))  # weak: of both

    async def respond(self, request: Request) -> Response:
        """200, or 304 when the client has it (RFC 9110 section 13.1.2: If-None-Match compares weakly)."""
        headers = {
            "ETag": self.etag,
            "Cache-Control": "no-cache",  # kept, but asked for: a new version shows at once
            "Vary": "Accept-Encoding",
            **self.headers,
        }
        held = ["W/" + tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.etag in held or "W/*" in held:
            return Response(status_code=304, headers=headers)
        headers["Content-Type"] = self.media_type
        # No q values: every browser sends plain names, and what is not understood gets the plain file.
        encodings = [name.strip() for name in request.headers.get("accept-encoding", "").split(",")]
        if "gzip" in encodings:
            return Response(self.packed, headers={**headers, "Content-Encoding": "gzip"})
        return Response(self.body, headers=headers)
