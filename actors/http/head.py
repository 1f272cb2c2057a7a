"""The head of an HTTP request: what is it, and is it a WebSocket upgrade that we can take? And that of a response.

Stricter than h11, which reads heads of plain HTTP once more behind it.
Sources: RFC 9112 sections 3 and 5 (request line, header fields), RFC 6455 section 4.2.1 (what an upgrade must have).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

HEAD_END = b"\r\n\r\n"
MAX_HEAD_BYTES = 16 * 1024

SUBPROTOCOL = "tracking.v1"
WEBSOCKET_VERSION = "13"  # the only one there is (RFC 6455 section 4.1)

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]+) HTTP/(1\.[01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class BadHead(Exception):
    """Not an HTTP/1 request that anybody here should answer with more than `400`."""


@attrs.frozen
class RequestHead:
    """A request line and header fields, decoded as latin-1, which cannot fail."""

    method: str
    target: str  # as sent: printable ASCII
    version: str  # 1.0 or 1.1
    fields: tuple[tuple[str, str], ...]  # (name in lower case, value)

    def values(self, name: str) -> list[str]:
        """Every value of a header field, in order."""
        return [value for key, value in self.fields if key == name]

    def only(self, name: str) -> str | None:
        """The value of a field that may be sent once; BadHead when it is sent more often."""
        values = self.values(name)
        if len(values) > 1:
            raise BadHead(f"more than one {name} header")
        return values[0] if values else None

    def words(self, name: str) -> list[str]:
        """The comma-separated elements of a list-valued field."""
        return [word.strip(" \t") for value in self.values(name) for word in value.split(",") if word.strip(" \t")]

    @property
    def path(self) -> str:
        """The target's path, percent-decoded; empty when the target is not a path or URL."""
        try:
            return unquote(urlsplit(self.target).path, errors="strict")
        except ValueError:
            return ""

    @property
    def query(self) -> dict[str, str]:
        """Query parameters, the first of each name."""
        _, _, query = self.target.partition("?")
        found: dict[str, str] = {}
        for name, value in parse_qsl(query.partition("#")[0], keep_blank_values=True):
            found.setdefault(name, value)
        return found

    @property
    def wants_websocket(self) -> bool:
        """Whether the client asks for the WebSocket protocol, rightly or wrongly."""
        return "websocket" in [word.lower() for word in self.words("upgrade")]


def parse_head(head: bytes) -> RequestHead:
    """Everything before the empty line. Raises BadHead."""
    lines = head.split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(lines[0])
    if request_line is None:
        raise BadHead("not an HTTP/1 request line")
    fields = []
    for line in lines[1:]:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BadHead("a header line is malformed")
        fields.append((field[1].decode("ascii").lower(), field[2].decode("latin-1").strip(" \t")))
    method, target, version = (part.decode("ascii") for part in request_line.groups())
    return RequestHead(method, target, version, tuple(fields))


@attrs.frozen
class Upgrade:
    """What of a valid upgrade request matters from here on."""

    key: str
    subprotocols: tuple[str, ...]

    @property
    def selected(self) -> str | None:
        """The subprotocol that the answer names: ours where it was offered."""
        return SUBPROTOCOL if SUBPROTOCOL in self.subprotocols else None

    @property
    def accept(self) -> str:
        """The answer to the key, which shows that it was understood (RFC 6455 section 4.2.2)."""
        return base64.b64encode(hashlib.sha1(f"{self.key}{_GUID}".encode("ascii")).digest()).decode("ascii")


class OtherVersion(BadHead):
    """A WebSocket version that we do not speak: `426` with the one that we do (RFC 6455 section 4.4)."""


def upgrade_of(head: RequestHead) -> Upgrade:
    """The upgrade that is asked for (RFC 6455 section 4.2.1). Raises BadHead, OtherVersion."""
    if head.method != "GET" or head.version != "1.1":
        raise BadHead("a WebSocket starts with GET and HTTP/1.1")
    if not head.only("host"):
        raise BadHead("no Host header")
    if "upgrade" not in [word.lower() for word in head.words("connection")]:
        raise BadHead("no Connection: Upgrade header")
    if head.values("content-length") not in ([], ["0"]) or head.values("transfer-encoding"):
        raise BadHead("a WebSocket request has no body")
    version = head.only("sec-websocket-version")
    if version != WEBSOCKET_VERSION:
        raise OtherVersion(f"WebSocket version {WEBSOCKET_VERSION} is spoken here")
    key = head.only("sec-websocket-key") or ""
    try:
        if len(base64.b64decode(key.encode("ascii"), validate=True)) != 16:
            raise BadHead("Sec-WebSocket-Key is not 16 bytes")
    except (UnicodeEncodeError, binascii.Error):
        raise BadHead("Sec-WebSocket-Key is not base64") from None
    subprotocols = tuple(head.words("sec-websocket-protocol"))
    if len(set(subprotocols)) != len(subprotocols) or not all(_TOKEN.fullmatch(name) for name in subprotocols):
        raise BadHead("Sec-WebSocket-Protocol is malformed")
    return Upgrade(key, subprotocols)


def response_head(status: HTTPStatus, fields: Mapping[str, str]) -> bytes:
    """Everything up to the body (RFC 9112 section 4). All of it is ASCII."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("ascii") + HEAD_END
