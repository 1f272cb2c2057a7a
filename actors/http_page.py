"""The dashboard page and its files, read once and served from memory: no thread, and a 304 for who has them."""

from __future__ import annotations

import hashlib
import html
from importlib import resources
from pathlib import PurePath

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.core.tile_url import tile_origin

MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Of the files in actors/dashboard that are served as /static/NAME."""


def content_security_policy(tile_url: str) -> str:
    """Nothing from elsewhere, but for images of the host that `[page] tile_url` names."""
    tiles = f" {tile_origin(tile_url)}" if tile_url else ""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'{tiles}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@attrs.frozen
class _File:
    """One file, ready to be sent."""

    body: bytes
    media_type: str
    etag: str
    policy: str

    async def respond(self, request: Request) -> Response:
        """200, or 304 when the browser has it (RFC 9110 section 13.1.2: If-None-Match compares weakly)."""
        headers = {
            "ETag": self.etag,
            "Cache-Control": "no-cache",  # kept, but asked for: a new version shows at once
            "Content-Security-Policy": self.policy,
        }
        held = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.etag in held or "*" in held:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers={**headers, "Content-Type": self.media_type})


def page_routes(*, ws_path: str, auth: str, tile_url: str) -> list[Route]:
    """`/` and `/static/...`. The page learns where the WebSocket is, whether it needs a token, where tiles are."""
    policy = content_security_policy(tile_url)

    def file(body: bytes, media_type: str) -> _File:
        return _File(body, media_type, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"', policy)

    folder = resources.files("actors.dashboard")
    index = folder.joinpath("index.html").read_text("utf-8")
    for name, value in (("ws_path", ws_path), ("auth", auth), ("tile_url", tile_url)):
        index = index.replace(f"{{{name}}}", html.escape(value))  # attribute values: quotes are escaped too
    files = {"/": file(index.encode(), "text/html; charset=utf-8")}
    for each in folder.iterdir():
        media_type = MEDIA_TYPES.get(PurePath(each.name).suffix)
        if media_type is not None:
            files[f"/static/{each.name}"] = file(each.read_bytes(), media_type)
    return [Route(path, file.respond) for path, file in files.items()]
