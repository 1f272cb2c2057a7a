"""Nothing comes, though something could: for how long, and whether that was said."""

from __future__ import annotations

import attrs


@attrs.define
class Silence:
    """Of a broker that we are subscribed at. Times are seconds of one clock."""

    after_s: float  # a silence of so long is due
    _since: float | None = None  # None: nothing can come
    _said: bool = False

    def may_end(self, now: float) -> None:
        """From now on something could come."""
        self._since = now

    def is_ours(self) -> None:
        """Nothing can come: no connection, or we do not read."""
        self._since = None

    def ended(self, now: float) -> None:
        """Something came."""
        self._since = now
        self._said = False

    def is_due(self, now: float) -> bool:
        """It has lasted, and that was not said: True once a silence, however often the connection is lost in it."""
        if self._said or self._since is None or now - self._since < self.after_s:
            return False
        self._said = True
        return True
