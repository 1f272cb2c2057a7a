"""One race: its live positions, and who watches them.

Owns: nothing that must survive. Its state (mailbox, live positions, dashboards, open window) is lent by the
directory.
Takes in: the messages of RaceMessage, by its memory channel; fixes that come while it waits are done by `_do` in the
turn of the reader (shortcut.py). Sends out: parcels to persistence, live positions to live state, prebuilt frames
to the outboxes of dashboards.
A crash loses nothing: the message in hand stays in the state and is done again, one fix at a time, to find the fix that
crashes it. Stops when cancelled: the open window is flushed first, without waiting for anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, assert_never

import attrs
import structlog
import trio

from actors.core.fix import Fix
from actors.core.parcel import Parcel
from actors.core.position import position_json
from actors.core.rejection import poison
from actors.core.timestamps import Clock
from actors.dashboards import events
from actors.dashboards.frames import Frame
from actors.history.mailbox import ParcelMailbox
from actors.races.alarm import RaceAlarm
from actors.races.messages import (
    Doubted,
    FixesArrived,
    PositionsFound,
    RaceMessage,
    ShownElsewhere,
    Subscribe,
    Unsubscribe,
)
from actors.races.restoring import Restore, Restoring
from actors.races.snapshots import Snapshots
from actors.races.state import RaceState
from actors.races.turns import in_batches
from actors.telemetry.metrics import Metrics

log = structlog.get_logger("race")


class ToOtherNodes(Protocol):
    """The relay's mailbox. Never blocks, never raises."""

    deaf: bool  # what other nodes show may not come here

    def show(self, race_id: str, frame: Frame) -> None: ...
    def read_again(self, race_id: str) -> None: ...


class CoalescingMailbox(Protocol):
    """The coalescing mailbox of live state."""

    def post(self, positions: Sequence[Fix]) -> None: ...
    def forget(self, race_id: str) -> None: ...


@attrs.define(eq=False)
class Race:
    """One per race with fixes: a race without fixes costs no actor."""

    state: RaceState
    restore: Restore
    to_history: ParcelMailbox
    live_state: CoalescingMailbox
    metrics: Metrics
    clock: Clock
    window_s: float  # [ws] batch_window_ms
    idle_s: float  # [app] race_idle_ms
    relay: ToOtherNodes | None = None  # None: there are none
    _alarm: RaceAlarm = attrs.field(init=False)
    _sooner: bool = False  # what was done may be due before the alarm rings
    _restoring: Restoring = attrs.field(init=False)
    _snapshots: Snapshots = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._restoring = Restoring(self.state, self.restore, self.relay)
        self._snapshots = Snapshots(self.state, self.clock, self._flush_window)
        self._alarm = RaceAlarm(self.state, self.clock, self.idle_s)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until idle (returns) or cancelled."""
        try:
            await self._restore()
            task_status.started()
            while not self._alarm.idle():
                await self._restore()
                async with trio.open_nursery() as nursery:
                    self._restoring.begin(nursery)
                    self._snapshots.begin(nursery)
                    while self.state.restored and not self._alarm.idle():
                        await self._work()
                        self._on_time()
                    nursery.cancel_scope.cancel()
        finally:
            self._flush_window()

    async def _work(self) -> None:
        """Do messages as they come, until the time has come for something else, or nobody is live."""
        state, waits = self.state, self._alarm.wound()
        with state.shortcut.open(self._do, waits), waits:
            while state.restored:
                await state.mailbox.wait()
                while state.restored and (message := state.mailbox.take()) is not None:
                    self._do(message)

    def _do(self, message: RaceMessage) -> None:
        """Do one message, which is in hand from here on: by `_work`, or by the shortcut."""
        state = self.state
        state.quarantine.held = message
        self.handle(message)
        state.message_done()
        state.handled += 1
        if self._sooner or type(message) is not FixesArrived:
            self._sooner = False
            self._alarm.set_earlier()
        if not state.live_positions.newest:
            state.look_up()

    def handle(self, message: RaceMessage) -> None:
        """Do one message. Everything that can fail comes before the first effect."""
        match message:
            case FixesArrived(parcel=parcel, taken_at=taken_at, stored=stored):
                self._take_fixes(parcel, taken_at, stored=stored)
                self.state.quiet_since = taken_at
            case ShownElsewhere():
                self._show_too(message)
            case Doubted():
                self._restoring.doubt()
            case PositionsFound(fixes=fixes):
                self._go_live(self.state.without_poison(fixes), trio.current_time())
            case Subscribe(outbox=outbox):
                self._snapshots.answer(message)
                self.state.outboxes[outbox] = None
            case Unsubscribe(outbox=outbox):
                self.state.outboxes.pop(outbox, None)
                self.state.asked.pop(outbox, None)
            case _:
                assert_never(message)

    def _take_fixes(self, parcel: Parcel, taken_at: float, *, stored: bool) -> None:
        state = self.state
        if poisoned := state.quarantine.poisoned:
            bad = tuple(poison(parcel.fixes[i], "") for i in sorted(poisoned))
            log.error("fix is poison", race=state.race_id, fixes=len(bad))
            parcel = Parcel(parcel.id, parcel.race_id, state.without_poison(parcel.fixes), parcel.rejections + bad)
        self._go_live(parcel.fixes, taken_at)
        if not stored:
            self.to_history.send(parcel)

    def _go_live(self, fixes: Sequence[Fix], taken_at: float) -> None:
        state = self.state
        if state.refused:
            fixes = [fix for fix in fixes if fix.id not in state.refused]
        changes = state.live_positions.changes(fixes, self.clock())
        if not changes:
            return
        watched = state.outboxes or self.relay is not None
        shown = [(c.fix.arrived_ms, position_json(c.fix, c.stale)) for c in changes] if watched else []
        newest = list({c.fix.participant_id: c.fix for c in changes}.values())
        if state.live_positions.accept(changes):
            self._sooner = True
        self.live_state.post(newest)
        if shown:
            self._show(shown, taken_at)

    def _show_too(self, message: ShownElsewhere) -> None:
        """What dashboards of another node were shown: the same frame, unless we know better of somebody in it."""
        state = self.state
        changes = state.live_positions.changes(message.fixes, self.clock())
        if not changes:
            return
        same = tuple(c.fix for c in changes) == message.fixes and tuple(c.stale for c in changes) == message.stale
        frame = message.frame
        if not same and state.outboxes:
            frame = Frame(events.changes_event(state.race_id, [position_json(c.fix, c.stale) for c in changes]))
        self._flush_window()
        if state.live_positions.accept(changes):
            self._sooner = True
        state.quiet_since = trio.current_time()
        self._offer(frame, None)

    def _show(self, changes: list[tuple[int, bytes]], taken_at: float) -> None:
        window = self.state.window
        if window.due == math.inf:
            self._sooner = True
        window.add(changes, taken_at + self.window_s)
        # They may have waited long enough before; but what waits in the mailbox goes with them.
        if window.full or (window.due <= trio.current_time() and not self.state.mailbox):
            self._flush_window()

    def _redo_held(self) -> None:
        """Do the message in hand; when it crashed the race before, try its fixes one by one first."""
        state = self.state
        held = state.quarantine.held
        if held is None:
            return
        if state.quarantine.tried:
            fixes = _fixes_of(held)
            for i in state.quarantine.one_by_one(range(len(fixes))):
                for change in state.live_positions.changes([fixes[i]], self.clock()):
                    position_json(change.fix, change.stale)
        self.handle(held)
        state.message_done()

    def _on_time(self) -> None:
        state = self.state
        now_ms = self.clock()
        due_ms = state.live_positions.next_due_ms()
        turned = state.live_positions.turn_stale(now_ms) if due_ms is not None and due_ms <= now_ms else []
        if turned or trio.current_time() >= state.window.due:
            self._flush_window()
        for fix in turned:
            event = events.stale_event(state.race_id, fix.participant_id, fix.timestamp_ms)
            self._offer(Frame(event), None)

    def _flush_window(self) -> None:
        """Send the changes of the window: each frame is built once and shared by all dashboards of the race."""
        state = self.state
        for arrived_ms, event in state.window.take(state.race_id, one_each=self.window_s == 0):
            frame = Frame(event)
            if self.relay is not None:
                self.relay.show(state.race_id, frame)
            self._offer(frame, arrived_ms)

    def _offer(self, frame: Frame, arrived_ms: int | None) -> None:
        for outbox in self.state.outboxes:
            outbox.update(self.state.race_id, frame)
        if arrived_ms is not None and self.state.outboxes:
            self.metrics.arrival_to_socket_seconds.observe(max(self.clock() - arrived_ms, 0) / 1000)

    async def _restore(self) -> None:
        """Read the stores, at the start and after a refusal; but what was in hand when the race crashed comes first."""
        state = self.state
        if not state.restored and state.quarantine.held is None:
            found = await self.restore(state.race_id, state.refused)
            state.found = in_batches(found.fixes)
            self._restoring.restored(found.complete)
            state.restored = True
            state.refused.update(fix.id for fix in found.refused)
            if state.refused:
                self.live_state.forget(state.race_id)  # Redis may hold one
                self.live_state.post(list(state.live_positions.newest.values()))
                state.complete = False  # once more, for a fix that one of them hides as long as it is in the spool
            state.quiet_since = trio.current_time()
        self._redo_held()
        while state.found:
            state.quarantine.held = PositionsFound(state.found.pop())  # a fix that crashes us is found like any other
            self._redo_held()
            if state.found:
                await trio.lowlevel.checkpoint()


def _fixes_of(message: RaceMessage) -> tuple[Fix, ...]:
    match message:
        case FixesArrived(parcel=parcel):
            return parcel.fixes
        case PositionsFound(fixes=fixes) | ShownElsewhere(fixes=fixes):
            return fixes
        case _:
            return ()
