"""The dashboard page and its files."""

from __future__ import annotations

import html
from importlib import resources
from pathlib import PurePath

from starlette.routing import Route

from actors.http.files import File
from actors.settings.load import Settings
from actors.settings.tile_url import tile_origin

MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Of the files in actors/page that are served as /static/NAME."""


def content_security_policy(tile_url: str) -> str:
    """Nothing from elsewhere, but for images of the host that `[page] tile_url` names."""
    tiles = f" {tile_origin(tile_url)}" if tile_url else ""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'{tiles}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page_routes(settings: Settings) -> list[Route]:
    """`/` and `/static/...`. What the page has to know of the settings stands in its `<meta>`."""
    ws, page, app = settings.ws, settings.page, settings.app
    told = {
        "ws_path": ws.path,
        "auth": ws.auth,
        "tile_url": page.tile_url,
        "tile_max_zoom": page.tile_max_zoom,
        "stale_ms": app.stale_data_threshold_ms,
        "skew_ms": app.max_clock_skew_ms,
        "node": app.node_id if settings.cluster.relay else "",
    }
    policy = content_security_policy(page.tile_url)

    def file(body: bytes, media_type: str) -> File:
        return File(body, media_type, {"Content-Security-Policy": policy})

    folder = resources.files("actors.page")
    index = folder.joinpath("index.html").read_text("utf-8")
    modules = sorted(each.name for each in folder.iterdir() if each.name.endswith(".js"))
    # All at once, instead of each after the one that imports it.
    preloads = (f'<link rel="modulepreload" href="static/{name}">' for name in modules)
    index = index.replace("{modules}", "\n  ".join(preloads))
    for name, value in told.items():
        index = index.replace(f"{{{name}}}", html.escape(str(value)))  # attribute values: quotes are escaped too
    files = {"/": file(index.encode(), "text/html; charset=utf-8")}
    for each in folder.iterdir():
        media_type = MEDIA_TYPES.get(PurePath(each.name).suffix)
        if media_type is not None:
            files[f"/static/{each.name}"] = file(each.read_bytes(), media_type)
    return [Route(path, file.respond) for path, file in files.items()]
