"""The dashboard page and its files, read once and served from memory: no thread, and a 304 for who has them."""

from __future__ import annotations

import hashlib
import html
from importlib import resources

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FILES = {
    "app.js": "text/javascript; charset=utf-8",
    "connection.js": "text/javascript; charset=utf-8",
    "table.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


@attrs.frozen
class _File:
    """One file, ready to be sent."""

    body: bytes
    media_type: str
    etag: str

    async def respond(self, request: Request) -> Response:
        """200, or 304 when the browser has it (RFC 9110 section 13.1.2: If-None-Match compares weakly)."""
        headers = {
            "ETag": self.etag,
            "Cache-Control": "no-cache",  # kept, but asked for: a new version shows at once
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        }
        held = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.etag in held or "*" in held:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers={**headers, "Content-Type": self.media_type})


def page_routes(*, ws_path: str, auth: str) -> list[Route]:
    """`/` and `/static/...`. The page learns where the WebSocket is and whether it needs a token."""
    index = _read("index.html").decode()
    # Attribute values, so quotes are escaped too.
    index = index.replace("{ws_path}", html.escape(ws_path)).replace("{auth}", html.escape(auth))
    files = {"/": _file(index.encode(), "text/html; charset=utf-8")}
    files |= {f"/static/{name}": _file(_read(name), media_type) for name, media_type in FILES.items()}
    return [Route(path, file.respond) for path, file in files.items()]


def _file(body: bytes, media_type: str) -> _File:
    return _File(body, media_type, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"')


def _read(name: str) -> bytes:
    return resources.files("actors.dashboard").joinpath(name).read_bytes()
