"""Who may open a WebSocket: every request head is read and judged here, before any library sees it.

Libraries have died of heads that nobody had judged. Refusals are plain HTTP responses: 400, 401, 403, 404, 405, 408,
426, 431, 500, 501, 503.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs

from actors.dashboards.deflate import agreed
from actors.http.access import Access, BadToken, Grant, find_token, loopback_request
from actors.http.head import (
    HEAD_END,
    MAX_HEAD_BYTES,
    SUBPROTOCOL,
    WEBSOCKET_VERSION,
    BadHead,
    OtherVersion,
    RequestHead,
    Upgrade,
    parse_head,
    response_head,
    upgrade_of,
)
from actors.http.problem import Problem, bad_request, unauthorized

if TYPE_CHECKING:
    from actors.http.stream import ConnectionStream
    from actors.settings.load import WsSettings

RECEIVE_BYTES = 4096
BEARER = "bearer."  # prefix of the subprotocol that carries a token
NOT_ALLOWED = "this origin is not allowed"

# Never part of a request head: the start of something else, such as TLS on a plain port.
_NOT_TEXT = bytes(set(range(32)) - {0x09, 0x0A, 0x0D})


@attrs.frozen
class Admitted:
    """A dashboard that may come in."""

    upgrade: Upgrade
    grant: Grant
    extensions: str | None  # that were agreed on: compression

    def answer(self) -> bytes:
        """The HTTP response behind which frames begin (RFC 6455 section 4.2.2)."""
        fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": self.upgrade.accept}
        if self.upgrade.selected is not None:
            fields["Sec-WebSocket-Protocol"] = self.upgrade.selected
        if self.extensions is not None:
            fields["Sec-WebSocket-Extensions"] = self.extensions
        return response_head(HTTPStatus.SWITCHING_PROTOCOLS, fields)


def last_answer(problem: Problem) -> bytes:
    """The whole HTTP response (RFC 9112); the connection is closed behind it."""
    body = problem.body()
    fields = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Connection": "close",
        **problem.headers,
    }
    return response_head(HTTPStatus(problem.status), fields) + body


async def read_head(stream: ConnectionStream) -> bytes | None:
    """The head of the next request without its empty line. None: the client left.

    Reads at most MAX_HEAD_BYTES and a bit; what was read beyond the head is put back. Raises Problem.
    """
    received = bytearray()
    while True:
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            return None
        searched = max(len(received) - len(HEAD_END), 0)
        received += data
        # RFC 9112 section 2.2: empty lines before a request are to be ignored.
        if received[:1] in b"\r\n":
            received = received.lstrip(b"\r\n")
        end = received.find(HEAD_END, searched)
        head = received if end < 0 else received[:end]
        if len(head) > MAX_HEAD_BYTES:
            message = f"the request head is over {MAX_HEAD_BYTES} bytes"
            raise Problem(431, message)
        if len(head.translate(None, _NOT_TEXT)) != len(head) or head.replace(b"\r\n", b"").rstrip(b"\r").count(b"\n"):
            raise bad_request("not an HTTP/1 request")
        if end >= 0:
            stream.put_back(bytes(received[end + len(HEAD_END) :]))
            return bytes(head)


def understand(head: bytes) -> RequestHead:
    """Parse a head. Raises Problem."""
    try:
        return parse_head(head)
    except BadHead as error:
        raise bad_request(str(error)) from None


def admit(head: RequestHead, ws: WsSettings, access: Access, secure: bool, now_s: float) -> Admitted | None:
    """Whether a request opens a WebSocket; None: it is ordinary HTTP. Raises Problem."""
    at_home = head.path == ws.path
    if not head.wants_websocket:
        _check_http(head)
        if not at_home:
            return None
        # Also a page that asks why its WebSocket does not open: the browser did not tell it.
        if not _welcome(ws, access, head.only("host"), head.only("origin"), secure):
            message = "auth is off: only this machine is answered" if ws.auth == "off" else NOT_ALLOWED
            raise Problem(403, message)
        if head.method not in ("GET", "HEAD"):
            message = "this address speaks WebSocket"
            raise Problem(405, message, headers={"Allow": "GET, HEAD"})
        raise _upgrade_required("this address speaks WebSocket")
    if not at_home:
        raise Problem(404, f"WebSockets are at {ws.path}")
    try:
        upgrade = upgrade_of(head)
        host, origin, authorization = head.only("host"), head.only("origin"), head.only("authorization")
    except OtherVersion as error:
        raise _upgrade_required(str(error)) from None
    except BadHead as error:
        raise bad_request(str(error)) from None
    if not _welcome(ws, access, host, origin, secure):
        raise Problem(403, NOT_ALLOWED)
    if SUBPROTOCOL not in upgrade.subprotocols and any(name.startswith(BEARER) for name in upgrade.subprotocols):
        raise bad_request(f"the subprotocol {BEARER}TOKEN needs {SUBPROTOCOL} beside it")
    try:
        grant = access.verify(find_token(authorization, upgrade.subprotocols, head.query), now_s)
    except BadToken as error:
        raise unauthorized(str(error)) from None
    return Admitted(upgrade, grant, agreed(head.values("sec-websocket-extensions")) if ws.compression else None)


def _check_http(head: RequestHead) -> None:
    """What h11 behind us would refuse without a word (RFC 9112 sections 3.2 and 6.3). Raises Problem."""
    hosts = len(head.values("host"))
    if hosts > 1 or (hosts == 0 and head.version == "1.1"):
        raise bad_request("a request has one Host header")
    if len(head.values("origin")) > 1:
        raise bad_request("more than one origin header")
    if not all(length.isdigit() for length in head.words("content-length")):
        raise bad_request("Content-Length is malformed")


def _welcome(ws: WsSettings, access: Access, host: str | None, origin: str | None, secure: bool) -> bool:
    # Without tokens the only protection is that nobody else can ask, not even a page in the user's own browser.
    if ws.auth == "off" and not loopback_request(host, origin):
        return False
    return access.origin_allowed(origin, host, secure)


def _upgrade_required(message: str) -> Problem:
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": WEBSOCKET_VERSION}
    return Problem(426, message, headers=headers)
