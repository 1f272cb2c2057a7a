"""What people and programs read about this daemon, without a token: nothing in it is about a race.

`/api/openapi.json` (HTTP), `/api/asyncapi.json` (WebSocket), `/ops/` (Grafana dashboard, Prometheus alert rules).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from starlette.routing import Route

from actors.http.files import File

JSON = "application/json"
OPS = {
    "": ("index.html", "text/html; charset=utf-8"),
    "grafana.json": ("grafana.json", JSON),
    "alerts.yml": ("alerts.yml", "application/yaml"),  # RFC 9512
}
"""What follows `/ops/` -> its file in actors/telemetry/ops, its media type."""


def document_routes(ws_path: str) -> list[Route]:
    """The routes. The WebSocket's description names where it is."""
    folder = resources.files("actors.telemetry.ops")
    policy = {"Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"}
    files = {
        f"/ops/{name}": File(folder.joinpath(on_disk).read_bytes(), kind, policy)
        for name, (on_disk, kind) in OPS.items()
    }
    for name, document in (("openapi", openapi()), ("asyncapi", asyncapi(ws_path))):
        files[f"/api/{name}.json"] = File(json.dumps(document, ensure_ascii=False).encode(), JSON)
    return [Route(path, file.respond) for path, file in files.items()]


def openapi() -> dict[str, Any]:
    """actors/http/openapi.json, with a HEAD for every GET, and for each what may go wrong with any request."""
    document = _described("openapi.json")
    everywhere = document.pop("x-every-response")
    for path in document["paths"].values():
        get = path["get"]
        get["responses"] = {**everywhere, **get["responses"]}
        bare = {status: _bare(document, response) for status, response in get["responses"].items()}
        path["head"] = {**get, "operationId": f"{get['operationId']}Head", "responses": bare}
    return document


def asyncapi(ws_path: str) -> dict[str, Any]:
    """actors/http/asyncapi.json."""
    document = _described("asyncapi.json")
    document["channels"]["tracking"]["address"] = ws_path
    return document


def _described(name: str) -> dict[str, Any]:
    """The document, with the shapes that HTTP and WebSocket share."""
    folder = resources.files("actors.http")
    document: dict[str, Any] = json.loads(folder.joinpath(name).read_text("utf-8"))
    shared = json.loads(folder.joinpath("schemas.json").read_text("utf-8"))
    document["components"]["schemas"] = {**shared, **document["components"]["schemas"]}
    return document


def _bare(document: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any]:
    """A response as HEAD gets it: without its body, and what can be had from there."""
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return {key: value for key, value in response.items() if key not in ("content", "links")}
