"""What an HTTP client is told when it does not get what it asked for (api/openapi.json)."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from actors.errors import ErrorCode

CODES = {
    400: str(ErrorCode.BAD_REQUEST),
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    500: "internal_error",
    503: str(ErrorCode.UNAVAILABLE),
}
"""The code of a status, where no better one is given."""


@attrs.define
class Problem(Exception):
    """Raised by a route: answered with this status and `{"error": {"code", "message"}}`."""

    status: int
    message: str
    code: str = ""  # empty: the status's own
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def body(self) -> bytes:
        """The JSON body."""
        code = self.code or CODES.get(self.status, "error")
        return msgspec.json.encode({"error": {"code": code, "message": self.message}})


def bad_request(message: str) -> Problem:
    """400: a parameter is wrong."""
    return Problem(400, message)


def unavailable(message: str) -> Problem:
    """503: worth trying again in a moment."""
    return Problem(503, message, headers={"Retry-After": "5"})
