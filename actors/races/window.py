"""Changes of one race on their way to its dashboards: gathered for a while, then cut into events."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

from actors.dashboards import events

EVENT_BYTES = 256 * 1024
"""Of positions in one event, about: a window that has gathered as much is sent before its time, so that a burst
reaches a dashboard's socket piece by piece instead of overflowing its outbox at once."""


@attrs.define
class Window:
    """Owned by the directory with the race's state: it outlives a crash of the race."""

    due: float = math.inf  # seconds, any one monotonic clock: when it must be sent; infinite while it is empty
    _changes: list[tuple[int, bytes]] = attrs.field(factory=list)  # (arrival in Unix ms, position as JSON), in order
    _size_bytes: int = 0  # of that JSON

    @property
    def empty(self) -> bool:
        """There is nothing to send."""
        return not self._changes

    @property
    def full(self) -> bool:
        """It must be sent now."""
        return self._size_bytes >= EVENT_BYTES

    def add(self, changes: Iterable[tuple[int, bytes]], due: float) -> None:
        """Take changes; `due` counts where they are the first ones."""
        for change in changes:
            self._changes.append(change)
            self._size_bytes += len(change[1])
            self.due = min(self.due, due)

    def take(self, race_id: str, *, one_each: bool) -> list[tuple[int, bytes]]:
        """(arrival of its first change, event) each, and an empty window.

        Two or more changes in each event, unless there is one alone or `one_each` (batch_window_ms 0).
        """
        changes, parts = self._changes, 1 + self._size_bytes // EVENT_BYTES
        self._changes, self._size_bytes, self.due = [], 0, math.inf
        if not changes:
            return []
        size = 1 if one_each else max(2, math.ceil(len(changes) / parts))
        starts = list(range(0, len(changes), size))
        if size > 1 and len(changes) - starts[-1] == 1 and len(starts) > 1:
            starts.pop()
        ends = [*starts[1:], len(changes)]
        return [
            (changes[start][0], _event(race_id, changes[start:end])) for start, end in zip(starts, ends, strict=True)
        ]


def _event(race_id: str, changes: list[tuple[int, bytes]]) -> bytes:
    return events.changes_event(race_id, [position for _, position in changes])
