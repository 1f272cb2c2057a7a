"""What a client is told when it does not get what it asked for (http/openapi.json)."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from actors.core.errors import ErrorCode

CODES = {
    400: str(ErrorCode.BAD_REQUEST),
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    426: "upgrade_required",
    431: "too_large",
    500: "internal_error",
    503: str(ErrorCode.UNAVAILABLE),
}
"""The code of a status, where no better one is given."""


@attrs.define
class Problem(Exception):
    """Answered with this status and `{"error": {"code", "message"}}`; by the listener it closes the connection, too."""

    status: int
    message: str
    code: str = attrs.field(default=attrs.Factory(lambda of: CODES.get(of.status, "error"), takes_self=True))
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def body(self) -> bytes:
        """The JSON body."""
        return msgspec.json.encode({"error": {"code": self.code, "message": self.message}})


def bad_request(message: str) -> Problem:
    """400."""
    return Problem(400, message)


def unauthorized(message: str) -> Problem:
    """401: no token, or a bad one."""
    return Problem(401, message, headers={"WWW-Authenticate": "Bearer"})


def unavailable(message: str) -> Problem:
    """503: at a limit, or something is away; worth trying again in a moment."""
    return Problem(503, message, headers={"Retry-After": "5"})
