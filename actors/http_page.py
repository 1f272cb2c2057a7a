"""The dashboard page and its files, read and packed once, served from memory: no thread, a 304 for who has them."""

from __future__ import annotations

import gzip
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
    packed: bytes  # gzip: a third, which a phone on a bad line notices
    media_type: str
    etag: str  # weak: of both
    policy: str

    async def respond(self, request: Request) -> Response:
        """200, or 304 when the browser has it (RFC 9110 section 13.1.2: If-None-Match compares weakly)."""
        headers = {
            "ETag": self.etag,
            "Cache-Control": "no-cache",  # kept, but asked for: a new version shows at once
            "Content-Security-Policy": self.policy,
            "Vary": "Accept-Encoding",
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


def page_routes(*, ws_path: str, auth: str, tile_url: str) -> list[Route]:
    """`/` and `/static/...`. The page learns where the WebSocket is, whether it needs a token, where tiles are."""
    policy = content_security_policy(tile_url)

    def file(body: bytes, media_type: str) -> _File:
        etag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        return _File(body, gzip.compress(body, mtime=0), media_type, etag, policy)

    folder = resources.files("actors.dashboard")
    index = folder.joinpath("index.html").read_text("utf-8")
    modules = sorted(each.name for each in folder.iterdir() if each.name.endswith(".js"))
    # All at once, instead of each after the one that imports it.
    preloads = (f'<link rel="modulepreload" href="static/{name}">' for name in modules)
    index = index.replace("{modules}", "\n  ".join(preloads))
    for name, value in (("ws_path", ws_path), ("auth", auth), ("tile_url", tile_url)):
        index = index.replace(f"{{{name}}}", html.escape(value))  # attribute values: quotes are escaped too
    files = {"/": file(index.encode(), "text/html; charset=utf-8")}
    for each in folder.iterdir():
        media_type = MEDIA_TYPES.get(PurePath(each.name).suffix)
        if media_type is not None:
            files[f"/static/{each.name}"] = file(each.read_bytes(), media_type)
    return [Route(path, file.respond) for path, file in files.items()]
