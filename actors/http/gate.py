"""What holds for every HTTP request before a route sees it, and for every response: plain ASGI, no thread, no queue."""

from __future__ import annotations

import trio
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.http.access import loopback_request
from actors.http.problem import Problem

MAX_BODY_BYTES = 4096  # no route reads a body
BODY_S = 10  # seconds for all of it

SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def problem_response(problem: Problem) -> Response:
    """The JSON answer."""
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(problem.body(), problem.status, headers, media_type="application/json")


class Gate:
    """Refuses what no route should see, and puts the security headers on every response.

    Routes are matched against the path as it was sent, still percent-encoded: `%2F` belongs to an id.
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool) -> None:
        self._app = app
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sending = _with_headers(send)
        headers = Headers(scope=scope)
        if self._loopback_only and not loopback_request(headers.get("host"), headers.get("origin")):
            problem = Problem(403, "auth is off: only requests from and to this machine are answered")
            await problem_response(problem)(scope, receive, sending)
        elif not await _body_is_small(headers, receive):
            problem = Problem(413, f"a request body of at most {MAX_BODY_BYTES} bytes is taken, within {BODY_S} s")
            await problem_response(problem)(scope, receive, sending)
        else:
            await self._app({**scope, "path": scope["raw_path"].decode("ascii")}, receive, sending)


class Cors(CORSMiddleware):
    """starlette's, but with a JSON body where it refuses a preflight."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """200 with the Access-Control headers, or 400."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        problem = Problem(400, bytes(response.body).decode())
        headers = {k: v for k, v in response.headers.items() if k not in ("content-length", "content-type")}
        return Response(problem.body(), 400, headers, media_type="application/json")


async def _body_is_small(headers: Headers, receive: Receive) -> bool:
    """Take the request body, which no route wants, to its end."""
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return True
    size = 0
    with trio.move_on_after(BODY_S):
        while size <= MAX_BODY_BYTES:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                return size <= MAX_BODY_BYTES
    return False


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
