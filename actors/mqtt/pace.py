"""How long messages gather in the socket before they are read: waking up costs as much as very many of them.

Nobody waits longer for it in the end. What is done with messages (a commit, a frame) waits for company anyway, and is
told how long these have waited already.
"""

from __future__ import annotations

import attrs

LEAST_S, MOST_S = 0.020, 0.100
"""Bounds of `longest_s`."""

GATHER_BYTES = 32 * 1024
"""A pause is no longer than so much payload takes to come: it must fit into the kernel's buffer of a socket."""

BACKLOG_BYTES = 2 * GATHER_BYTES
"""Where as much came at once there is more of it, or one that is large: no pause."""


@attrs.define(eq=False)
class Pace:
    """Of one link. Times are seconds of any one monotonic clock."""

    longest_s: float
    _read_at: float = 0.0
    _since: float = 0.0  # the beginning of the last pause
    _until: float = 0.0  # 0: there was none since something was read, or it was cut short

    def __attrs_post_init__(self) -> None:
        self.longest_s = min(max(self.longest_s, LEAST_S), MOST_S)

    def left_s(self, now: float) -> float:
        """What is left of the pause; 0: read as soon as something comes."""
        return max(self._until - now, 0.0)

    def waited_s(self, now: float) -> float:
        """How long what is read now may have waited for the end of the pause."""
        return min(now - self._since, self.longest_s) if self._until else 0.0

    def read(self, payload_bytes: int, now: float) -> None:
        """So much was there just now. A pause begins, unless nothing was."""
        passed_s, self._read_at = now - self._read_at, now
        self.go_on()
        if 0 < payload_bytes < BACKLOG_BYTES:
            self._since = now
            self._until = now + min(self.longest_s, passed_s * GATHER_BYTES / payload_bytes)

    def go_on(self) -> None:
        """End the pause: nothing came in it, and nothing may come before something is acknowledged."""
        self._until = 0.0
