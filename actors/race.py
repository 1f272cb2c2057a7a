"""One race: its live positions, and who watches them.

Owns: nothing that must survive. Its cell (mailbox, standing, dashboards, open window) is the directory's and is lent.
Takes in: FixesArrived, PositionsFound, Subscribe, Unsubscribe. Sends out: parcels to persistence, live positions to
live state, prebuilt frames to the outboxes of dashboards.
A crash loses nothing: the message in hand stays in the cell and is done again, one fix at a time, to find the fix that
crashes it. Stops when cancelled: the open window is flushed first, without waiting for anything.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias, assert_never

import attrs
import structlog
import trio

from actors.core import wire
from actors.core.decode import poison
from actors.core.fix import Fix
from actors.core.outbox import Outbox
from actors.core.standing import Standing
from actors.messages import (
    FixesArrived,
    LivePosition,
    Parcel,
    PersistenceMessage,
    PositionsFound,
    RaceMessage,
    Subscribe,
    Unsubscribe,
)
from actors.metrics import Metrics

log = structlog.get_logger("race")

FRAME_BYTES = 256 * 1024
"""Of positions in one frame, about: a window that has gathered as much is sent before its time, so that a burst
reaches a dashboard's socket piece by piece instead of overflowing its outbox at once."""

RESTORE_RETRY_S = 5.0
"""While PostgreSQL is away: how often a race that started without it asks again for older positions."""

Clock: TypeAlias = Callable[[], int]
"""The wall clock in Unix ms."""

Restore: TypeAlias = Callable[[str], Awaitable[tuple[Sequence[Fix], bool]]]
"""race id -> (newest positions found, True when every store answered)"""


class LiveState(Protocol):
    """The coalescing mailbox of live state."""

    def post(self, positions: Sequence[LivePosition]) -> None: ...


@attrs.define(eq=False)
class RaceCell:
    """What a race is made of between crashes: owned by the directory, lent to the race actor."""

    race_id: str
    standing: Standing
    send: trio.MemorySendChannel[RaceMessage]
    inbox: trio.MemoryReceiveChannel[RaceMessage]
    outboxes: dict[Outbox, None] = attrs.field(factory=dict)  # an ordered set
    window: list[tuple[Fix, bytes]] = attrs.field(factory=list)  # changes not yet sent, with their JSON
    window_bytes: int = 0  # of that JSON
    window_due: float = float("inf")  # trio's clock: when the window must be sent
    quiet_since: float = 0.0  # trio's clock: the last fix
    restored: bool = False
    handled: int = 0  # messages, for `status`
    held: RaceMessage | None = None  # taken from the mailbox, not done yet
    suspect: int | None = None  # index of the fix of `held` that is being tried alone
    poisoned: set[int] = attrs.field(factory=set)  # indexes of fixes of `held` that crash the race
    tried: bool = False  # `held` crashed the race before: when no single fix is at fault, it is given up then
    snapshot: tuple[int, bytes] = (-1, b"")  # (version of the standing, positions joined), shared by dashboards

    def after_crash(self) -> RaceMessage | None:
        """Remember what was at fault, before the race runs again. Returns a message that nobody should try again."""
        given_up = None
        if self.suspect is not None:
            self.poisoned.add(self.suspect)
            self.suspect = None
        elif self.held is not None and self.tried:
            given_up = self.held
            log.error("message given up", race=self.race_id, kind=type(given_up).__name__)
            self.next_message(None)
        self.tried = self.held is not None
        return given_up

    def next_message(self, message: RaceMessage | None) -> None:
        """Hold a new message; None when the one in hand is done."""
        self.held = message
        self.suspect = None
        self.tried = False
        if self.poisoned:
            self.poisoned = set()


@attrs.define(eq=False)
class Race:
    """The actor. One per race with fixes (CONTRACT: a race without fixes costs no actor)."""

    cell: RaceCell
    restore: Restore
    to_persistence: trio.MemorySendChannel[PersistenceMessage]
    live_state: LiveState
    metrics: Metrics
    clock: Clock
    window_s: float  # [ws] batch_window_ms
    idle_s: float  # [app] race_idle_ms
    _complete: bool = True  # False: some store did not answer, ask again

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until idle (returns) or cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                await self._restore()
                self._redo_held()
                task_status.started()
                if not self._complete:
                    nursery.start_soon(self._keep_restoring)
                while not self._idle():
                    await self._turn()
                nursery.cancel_scope.cancel()
        finally:
            self._flush_window()

    async def _turn(self) -> None:
        cell = self.cell
        with trio.move_on_at(self._wake_at()):
            cell.held = await cell.inbox.receive()
        while cell.held is not None:
            self.handle(cell.held)
            cell.next_message(None)
            cell.handled += 1
            try:
                cell.held = cell.inbox.receive_nowait()
            except trio.WouldBlock:
                break
        self._on_time()

    def handle(self, message: RaceMessage) -> None:
        """Do one message. Everything that can fail comes before the first effect."""
        match message:
            case FixesArrived(parcel=parcel, stored=stored):
                self._take_fixes(parcel, stored=stored)
            case PositionsFound(fixes=fixes):
                self._go_live(fixes)
            case Subscribe(outbox=outbox):
                self._flush_window()
                frame = self._snapshot_frame(message)
                self.cell.outboxes[outbox] = None
                outbox.snapshot(self.cell.race_id, frame, resync=message.resync)
            case Unsubscribe(outbox=outbox):
                self.cell.outboxes.pop(outbox, None)
            case _:
                assert_never(message)

    def _take_fixes(self, parcel: Parcel, *, stored: bool) -> None:
        cell = self.cell
        if cell.poisoned:
            bad = tuple(poison(parcel.fixes[i], "") for i in sorted(cell.poisoned))
            log.error("fix is poison", race=cell.race_id, fixes=len(bad))
            good = tuple(fix for i, fix in enumerate(parcel.fixes) if i not in cell.poisoned)
            parcel = Parcel(parcel.id, parcel.race_id, good, parcel.rejections + bad)
        self._go_live(parcel.fixes)
        cell.quiet_since = trio.current_time()
        if not stored:
            self.to_persistence.send_nowait(parcel)

    def _go_live(self, fixes: Sequence[Fix]) -> None:
        cell = self.cell
        changes = cell.standing.changes(fixes, self.clock())
        if not changes:
            return
        frames = [(c.fix, wire.position_json(c.fix, c.stale)) for c in changes] if cell.outboxes else []
        newest = [LivePosition(fix) for fix in {c.fix.participant_id: c.fix for c in changes}.values()]
        cell.standing.accept(changes)
        cell.window += frames
        cell.window_bytes += sum(len(position) for _, position in frames)
        if frames and cell.window_due == float("inf"):
            cell.window_due = trio.current_time() + self.window_s
        self.live_state.post(newest)
        if cell.window_bytes >= FRAME_BYTES:
            self._flush_window()

    def _redo_held(self) -> None:
        """After a crash: try the fixes of the message in hand one by one, then do the message."""
        cell = self.cell
        if cell.held is None:
            return
        if isinstance(cell.held, FixesArrived):
            for i, fix in enumerate(cell.held.parcel.fixes):
                if i not in cell.poisoned:
                    cell.suspect = i
                    for change in cell.standing.changes([fix], self.clock()):
                        wire.position_json(change.fix, change.stale)
            cell.suspect = None
        self.handle(cell.held)
        cell.next_message(None)

    def _on_time(self) -> None:
        cell = self.cell
        now_ms = self.clock()
        due_ms = cell.standing.next_due_ms()
        turned = cell.standing.turn_stale(now_ms) if due_ms is not None and due_ms <= now_ms else []
        if turned or trio.current_time() >= cell.window_due:
            self._flush_window()
        for fix in turned:
            event = wire.stale_event(cell.race_id, fix.participant_id, fix.timestamp_ms)
            self._offer(wire.text_frame(event), None)

    def _flush_window(self) -> None:
        """Send the changes of the window: each frame is built once and shared by all dashboards of the race."""
        cell = self.cell
        window, parts = cell.window, 1 + cell.window_bytes // FRAME_BYTES
        cell.window, cell.window_bytes, cell.window_due = [], 0, float("inf")
        if not window or not cell.outboxes:
            return
        # Two or more in each frame, unless there is one alone or the window is 0.
        size = 1 if self.window_s == 0 else max(2, math.ceil(len(window) / parts))
        starts = list(range(0, len(window), size))
        if size > 1 and len(window) - starts[-1] == 1 and len(starts) > 1:
            starts.pop()
        for start, end in zip(starts, [*starts[1:], len(window)], strict=True):
            positions = [position for _, position in window[start:end]]
            alone = len(positions) == 1
            event = wire.update_event(positions[0]) if alone else wire.batch_event(cell.race_id, positions)
            self._offer(wire.text_frame(event), window[start][0].arrived_ms)

    def _offer(self, frame: bytes, arrived_ms: int | None) -> None:
        for outbox in self.cell.outboxes:
            outbox.update(self.cell.race_id, frame)
        if arrived_ms is not None and self.cell.outboxes:
            self.metrics.arrival_to_socket_seconds.observe(max(self.clock() - arrived_ms, 0) / 1000)

    def _snapshot_frame(self, request: Subscribe) -> bytes:
        return wire.text_frame(
            wire.snapshot_event(
                self.cell.race_id, joined_positions(self.cell), self.clock(), request.request_id, request.resync
            )
        )

    async def _restore(self) -> None:
        cell = self.cell
        if cell.restored:
            return
        fixes, self._complete = await self.restore(cell.race_id)
        cell.restored = True
        cell.quiet_since = trio.current_time()
        changes = cell.standing.changes(fixes, self.clock())
        cell.standing.accept(changes)
        self.live_state.post([LivePosition(change.fix) for change in changes])

    async def _keep_restoring(self) -> None:
        while not self._complete:
            await trio.sleep(RESTORE_RETRY_S)
            fixes, self._complete = await self.restore(self.cell.race_id)
            self.cell.send.send_nowait(PositionsFound(tuple(fixes)))

    def _wake_at(self) -> float:
        cell = self.cell
        wake = cell.window_due
        if not cell.outboxes:
            wake = min(wake, cell.quiet_since + self.idle_s)
        due_ms = cell.standing.next_due_ms()
        if due_ms is not None:
            wake = min(wake, trio.current_time() + max(due_ms - self.clock(), 0) / 1000)
        return wake

    def _idle(self) -> bool:
        """Nothing to keep alive for: no fix for long and nobody watching, or no fix ever seen in any store."""
        cell = self.cell
        if cell.inbox.statistics().current_buffer_used or cell.held is not None or cell.window:
            return False
        if not cell.standing.newest and self._complete:
            return True
        return not cell.outboxes and trio.current_time() >= cell.quiet_since + self.idle_s


def joined_positions(cell: RaceCell) -> bytes:
    """All live positions as JSON, joined by commas: made once per version of the standing."""
    standing = cell.standing
    if cell.snapshot[0] != standing.version:
        joined = b",".join(wire.position_json(fix, pid in standing.stale) for pid, fix in standing.newest.items())
        cell.snapshot = (standing.version, joined)
    return cell.snapshot[1]
