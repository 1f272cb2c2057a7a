"""When a race has to look up by itself: its window is due, somebody turns stale, or nobody needs it any more.

One cancel scope for many messages, whose deadline is only ever set earlier: to set it for each message costs as much
as the rest of the message. A race that looks up too early finds nothing to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import trio

from actors.races.state import RaceState

LOOK_S = 30.0
"""The wall clock may be set while somebody is about to become stale: it is looked at again after this long at most."""


@attrs.define(eq=False)
class RaceAlarm:
    """Of one race actor."""

    state: RaceState
    clock: Callable[[], int]  # Unix ms
    idle_s: float  # [app] race_idle_ms

    def wound(self) -> trio.CancelScope:
        """A new scope for the race to wait in, which ends in time, or when the race is to look up."""
        self.state.waits = trio.CancelScope(deadline=self._wake_at())
        return self.state.waits

    def set_earlier(self) -> None:
        """If something will be due before it rings."""
        wake = self._wake_at()
        if wake < self.state.waits.deadline:
            self.state.waits.deadline = wake

    def idle(self) -> bool:
        """Nothing to keep alive for, or no fix ever seen in any store."""
        state = self.state
        if state.mailbox or state.quarantine.held is not None or not state.restored:
            return False
        if not state.live_positions.newest and state.complete:
            return True
        return trio.current_time() >= self._retires_at()

    def _wake_at(self) -> float:
        state = self.state
        wake = min(state.window.due, self._retires_at())
        due_ms = state.live_positions.next_due_ms()
        if due_ms is not None:
            wake = min(wake, trio.current_time() + min(max(due_ms - self.clock(), 0) / 1000, LOOK_S))
        return wake

    def _retires_at(self) -> float:
        """When nobody watches, and no fix came for long."""
        return math.inf if self.state.outboxes else self.state.quiet_since + self.idle_s
