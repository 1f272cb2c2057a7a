"""Which node of the broker is tried next, and when. One broker is a list of one."""

from __future__ import annotations

import attrs

from actors.core.addresses import Address


@attrs.define(eq=False)
class Attempts:
    """After a loss the next node is tried, and the waits grow with each round of all of them that fails."""

    nodes: tuple[Address, ...]  # at least one
    _at: int = 0
    _failures: int = 0  # in a row
    _told: dict[Address, str] = attrs.field(factory=dict)  # what was said of each node since one of them worked

    @property
    def node(self) -> Address:
        """To be tried now."""
        return self.nodes[self._at]

    def worked(self) -> None:
        """A connection stands: whatever comes now is news."""
        self._told.clear()

    def lasted(self) -> None:
        """A connection has stood for long enough to end a row of failures."""
        self._failures = 0

    def failed(self, first_s: float, longest_s: float, chance: float) -> float:
        """The connection to this node is over, or none came about: seconds until the next one is tried.

        `chance` is between 0 and 1, so that not all clients come back at once.
        """
        self._at = (self._at + 1) % len(self.nodes)
        rounds = min(self._failures // len(self.nodes), 16)
        self._failures += 1
        return max(first_s, min(longest_s, first_s * (1 << rounds)) * (1 + chance) / 2)

    def news(self, reason: str) -> str:
        """How to say why there is no connection to this node; empty when that was said. Call it before `failed`."""
        if self._told.get(self.node) == reason:
            return ""
        self._told[self.node] = reason
        return reason if len(self.nodes) == 1 else f"{self.node.host}:{self.node.port}: {reason}"
