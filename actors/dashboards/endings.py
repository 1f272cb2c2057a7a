"""How the connection of a dashboard ends: one table for who ends it, who counts it and who describes it."""

from __future__ import annotations

from enum import Enum


class End(Enum):
    """README.md and http/asyncapi.json list exactly these, but for GONE."""

    GONE = "", None, ""  # the dashboard left
    SHUTTING_DOWN = "shutting_down", 1001, "connect again"
    PROTOCOL_ERROR = "protocol_error", 1002, "mend the client"
    BAD_DATA = "protocol_error", 1007, "mend the client"
    FLOODING = "flooding", 1008, "ask less often"
    TOO_LARGE = "too_large", 1009, "send smaller frames"
    CRASH = "crash", 1011, "connect again"
    TOKEN_EXPIRED = "token_expired", 4401, "get a new one"  # not of RFC 6455, as the others
    SLOW = "slow", None, "connect again"
    NO_PONG = "no_pong", None, "connect again"

    def __init__(self, reason: str, code: int | None, then: str) -> None:
        self.reason = reason
        """Label of tracking_ws_dropped_total and text of the close frame. Empty: not counted."""
        self.code = code
        """Of the close frame. None: there is none, and nothing that is under way is waited for."""
        self.then = then
        """What the client shall do."""


BY_LIBRARY = {end.code: end for end in (End.PROTOCOL_ERROR, End.BAD_DATA, End.TOO_LARGE)}
"""Codes that the WebSocket library closes with by itself; the same when the dashboard does. Other codes: GONE."""
