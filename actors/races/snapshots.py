"""Snapshots for those who subscribe to a race: of some participants at once, of many a slice in a turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
import trio

from actors.dashboards import events
from actors.dashboards.frames import Frame, Shared
from actors.races.messages import Subscribe
from actors.races.state import RaceState

AT_ONCE = 1000
"""Participants of a snapshot that is made in one turn, some 2 ms; of more it is made a slice in a turn."""


@attrs.define(eq=False)
class Snapshots:
    """Of one race actor."""

    state: RaceState
    clock: Callable[[], int]  # Unix ms
    flush_window: Callable[[], None]  # what waits there belongs before a snapshot
    _nursery: trio.Nursery | None = None

    def begin(self, nursery: trio.Nursery) -> None:
        """The race does messages, in this nursery. Who still waits for a snapshot gets it."""
        self._nursery = nursery
        if self.state.asked:
            nursery.start_soon(self._answer_in_turns)

    def answer(self, request: Subscribe) -> None:
        """By a snapshot: now, or later, and then with what changed since behind it."""
        if len(self.state.live_positions.newest) > AT_ONCE:
            self._ask(request)
        else:
            self.flush_window()
            self._answer(request, self.state.slices.of(self.state.live_positions), self.clock())

    def _ask(self, request: Subscribe) -> None:
        asked = self.state.asked
        if not asked and self._nursery is not None:
            self._nursery.start_soon(self._answer_in_turns)
        if not request.resync or request.outbox not in asked:  # any snapshot will do for a resync
            asked[request.outbox] = request

    async def _answer_in_turns(self) -> None:
        """Answer all who asked by one snapshot, then those who asked meanwhile by the next one: so it is made, and in
        memory, once for many."""
        state = self.state
        while requests := list(state.asked.values()):
            self.flush_window()
            now_ms, positions = self.clock(), state.slices.of(state.live_positions)
            for request in requests:
                request.outbox.hold(state.race_id)
            made = []
            for part in positions:
                if any(request.outbox.deflated for request in requests):
                    part.deflate()
                made.append(part)
                await trio.lowlevel.checkpoint()
            for request in requests:
                if state.asked.get(request.outbox) is request:
                    self._answer(request, made, now_ms)
                    request.outbox.release(state.race_id)
                    del state.asked[request.outbox]
                    await trio.lowlevel.checkpoint()

    def _answer(self, request: Subscribe, positions: Iterable[Shared], now_ms: int) -> None:
        frame = snapshot_frame(self.state, positions, now_ms, request)
        resync_s = trio.current_time() if request.resync else None
        request.outbox.snapshot(self.state.race_id, frame, resync_s=resync_s)


def snapshot_frame(state: RaceState, positions: Iterable[Shared], now_ms: int, request: Subscribe) -> Frame:
    """The answer to a dashboard that subscribes."""
    return Frame(*events.snapshot_event(state.race_id, positions, now_ms, request.request_id, request.resync))
