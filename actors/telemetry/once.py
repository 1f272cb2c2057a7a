"""A log line at most once a second per key, with a count of what was held back."""

from __future__ import annotations

from collections.abc import Hashable

import attrs


@attrs.define
class OncePerSecond:
    """Decides, by the caller's clock, whether to speak about a key now. Keys are codes: few; `max_keys` bounds them."""

    interval_s: float = 1.0
    max_keys: int = 1000  # beyond it the key that spoke longest ago is forgotten, with its count
    _spoke_s: dict[Hashable, float] = attrs.field(factory=dict, init=False)  # in the order of speaking
    _held_back: dict[Hashable, int] = attrs.field(factory=dict, init=False)

    def allows(self, key: Hashable, now_s: float) -> bool:
        """True when the key may speak now; False counts it as suppressed."""
        spoke_s = self._spoke_s.get(key)
        # A clock that was set back must not silence the key for as long as it was set back.
        if spoke_s is not None and spoke_s <= now_s < spoke_s + self.interval_s:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return False
        self._spoke_s.pop(key, None)
        if len(self._spoke_s) >= self.max_keys:
            oldest = next(iter(self._spoke_s))
            del self._spoke_s[oldest]
            self._held_back.pop(oldest, None)
        self._spoke_s[key] = now_s
        return True

    def take_suppressed(self, key: Hashable) -> int:
        """How many were suppressed since this was asked last."""
        return self._held_back.pop(key, 0)
