"""The directory of races: which race has an actor, and where a message for a race goes.

Owns: the states (mailbox, live_positions, dashboards of each race) and the nursery under which race actors run.
Takes in: parcels from the reader, subscriptions from dashboards and refused rows from persistence, as plain calls that
never block. It posts them to the mailbox of their race, a memory channel, or a fix for a race that waits has a shortcut
(shortcut.py). A crash of the directory restarts all races from their states. Fixes of a race that is down, or not
restored yet, go straight to persistence; of one that is parked only the live view stops. Stops when cancelled; each
race flushes its window.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence

import attrs
import structlog
import trio

from actors.core.errors import ErrorCode
from actors.core.fix import Fix, newest_of
from actors.core.parcel import Parcel
from actors.core.timestamps import Clock
from actors.dashboards import events
from actors.dashboards.events import RequestId
from actors.dashboards.frames import Frame
from actors.dashboards.outbox import Outbox
from actors.history.mailbox import ParcelMailbox
from actors.races.live_positions import LivePositions
from actors.races.messages import FixesArrived, RaceMessage, Subscribe, Unsubscribe
from actors.races.race import CoalescingMailbox, Race, ToOtherNodes
from actors.races.restoring import Restore
from actors.races.state import RaceState
from actors.races.turns import joined, made_live
from actors.supervision.child import Child, ChildSpec, Restart, State, keep_running
from actors.supervision.restart import Budget
from actors.telemetry.metrics import Metrics

log = structlog.get_logger("races")

DOWN_LIMIT_MESSAGES = 1_000
"""Kept for a race that is down or not restored; beyond it each participant's newest only: dashboards get a resync."""

EVICTED_PART = 50
"""Of max_races, the 50th part is evicted at once: to find the quietest every race has to be looked at."""

AT_ONCE = 50
"""Races that are started in one go, some 10 ms, and evicted ones that end: everybody else has a turn between them."""

STOPPED = "the live view is stopped"
"""What dashboards are told of a race that is parked."""

_LIVE = (State.WAITING, State.STARTING, State.RUNNING)


@attrs.define(eq=False)
class Directory:
    """The directory. `states` outlives a crash of the actor because the supervisor keeps this object."""

    make_race: Callable[[RaceState], Race]
    make_live_positions: Callable[[], LivePositions]
    restore: Restore
    to_history: ParcelMailbox
    live_state: CoalescingMailbox
    metrics: Metrics
    clock: Clock
    budget: Budget
    max_races: int
    relay: ToOtherNodes | None = None  # None: there are none
    states: dict[str, RaceState] = attrs.field(factory=dict)
    children: dict[str, Child] = attrs.field(factory=dict)  # races that have an actor, also while it is down
    _wanted: deque[tuple[Child, RaceState]] = attrs.field(factory=deque)  # to be run by the directory's nursery
    _evicted: deque[Child] = attrs.field(factory=deque)  # have nothing to do any more, to be ended
    _wake: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start actors as they are wanted, until cancelled."""
        self._wanted = deque(self._new_child(self.states[race_id]) for race_id in self.children)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._wake = trio.Event()
                while self._wanted or self._evicted:
                    for _ in range(AT_ONCE):
                        if self._evicted:
                            self._evicted.popleft().scope.cancel()
                        if self._wanted:
                            child, state = self._wanted.popleft()
                            if self.children.get(state.race_id) is child:  # not evicted yet
                                nursery.start_soon(self._keep_race, child, state)
                    await trio.lowlevel.checkpoint()
                await self._wake.wait()

    # --- called by the reader, and by persistence ---

    def route(self, parcel: Parcel, now: float) -> None:
        """Give a parcel, taken `now` by trio's clock, to its race; start the race when this is its first fix."""
        message = FixesArrived(parcel, now)
        state = self.states.get(parcel.race_id) or self._new_state(parcel.race_id)
        if state.restored and state.shortcut.hand(message):
            return
        child = self.children.get(parcel.race_id) or self.want(state)
        if child.state in _LIVE and state.restored:
            state.mailbox.post(message)
        else:
            self.to_history.send(parcel)
            if child.state is not State.PARKED:
                state.mailbox.post(FixesArrived(parcel, now, stored=True))
                if len(state.mailbox) > DOWN_LIMIT_MESSAGES:
                    self._shorten(state)

    def rows_refused(self, fixes: Sequence[Fix]) -> None:
        """PostgreSQL refused them for good: where they are live, their races begin anew. One that is not live now is
        started, because Redis may hold the refused position."""
        by_race: dict[str, list[Fix]] = {}
        for fix in fixes:
            by_race.setdefault(fix.race_id, []).append(fix)
        for race_id, group in by_race.items():
            state = self.states.get(race_id) or self._new_state(race_id)
            if state.refuse(group) and self.relay is not None:
                self.relay.read_again(race_id)
            child = self.children.get(race_id)
            if child is not None and child.state is State.PARKED:
                self.live_state.forget(race_id)
            elif child is None and not state.restored:
                self.want(state)

    # --- called by subscribers and HTTP ---

    def subscribe(self, race_id: str, outbox: Outbox, request_id: RequestId = None, resync: bool = False) -> None:
        """Answered through the outbox: a snapshot and then the stream, or a refusal."""
        state = self.states.get(race_id) or self._new_state(race_id)
        child = self.children.get(race_id)
        if child is not None and child.state is State.PARKED:
            event = events.error_event(ErrorCode.UNAVAILABLE, f"{STOPPED}: race {race_id}", request_id)
            outbox.refuse(race_id, Frame(event))
        elif child is None and state.restored and not state.live_positions.newest:
            state.outboxes[outbox] = None
            frame = Frame(*events.snapshot_event(race_id, (), self.clock(), request_id, resync))
            outbox.snapshot(race_id, frame, resync_s=trio.current_time() if resync else None)
        else:
            if child is None:
                self.want(state)
            state.mailbox.post(Subscribe(outbox, request_id, resync))

    def unsubscribe(self, race_id: str, outbox: Outbox) -> None:
        """The outbox has already forgotten the race."""
        state = self.states.get(race_id)
        if state is None:
            return
        child = self.children.get(race_id)
        if child is not None and child.state is not State.PARKED:
            state.mailbox.post(Unsubscribe(outbox))
            return
        state.outboxes.pop(outbox, None)
        if child is None:
            self._drop_if_unused(state)

    async def positions(self, race_id: str) -> bytes:
        """The live positions of a race as JSON, joined by commas; read from the stores when the race has no actor."""
        state = self.states.get(race_id)
        if state is not None and state.live_positions.newest and not state.found:
            return await joined(state.slices.of(state.live_positions))
        found = await self.restore(race_id, state.refused if state is not None else ())
        return await joined(await made_live(self.make_live_positions(), found.fixes, self.clock))

    def parked(self) -> int:
        """Races whose live view is stopped, because they crashed too often."""
        return sum(child.state is State.PARKED for child in self.children.values())

    def _new_child(self, state: RaceState) -> tuple[Child, RaceState]:
        spec = ChildSpec(
            name=f"race {state.race_id}",
            kind="race",
            start=self.make_race(state).run,
            budget=self.budget,
            restart=Restart.TRANSIENT,
            first_start_must_succeed=False,
            on_crash=lambda _crash: self._race_crashed(state),
            on_spent=lambda: self._race_parked(state),
            excused=lambda: state.quarantine.held is not None,
            depth=lambda: len(state.mailbox),
            handled=lambda: state.handled,
        )
        child = Child(spec)
        self.children[state.race_id] = child
        return child, state

    async def _keep_race(self, child: Child, state: RaceState) -> None:
        await keep_running(child, self.metrics)
        if self.children.get(state.race_id) is child and not child.scope.cancel_called:
            self._race_retired(state)

    def _race_crashed(self, state: RaceState) -> None:
        """What waits in the mailbox need not wait for the restart to become history."""
        given_up = state.after_crash()
        if given_up is not None:
            self._store(given_up)
        for message in state.take_waiting():
            state.mailbox.post(self._store(message))

    def _store(self, message: RaceMessage) -> RaceMessage:
        """Its fixes to persistence, if they were not sent there yet; the message as it is then."""
        if not isinstance(message, FixesArrived) or message.stored:
            return message
        self.to_history.send(message.parcel)
        return FixesArrived(message.parcel, message.taken_at, stored=True)

    def _shorten(self, state: RaceState) -> None:
        """Of a race that is down for long, what the newest positions need; its dashboards get a resync."""
        waiting = [self._store(message) for message in state.take_waiting()]
        skew_ms = state.live_positions.max_skew_ms
        fixes = [fix for message in waiting if isinstance(message, FixesArrived) for fix in message.parcel.fixes]
        newest = newest_of(fix for fix in fixes if fix.timestamp_ms - fix.arrived_ms <= skew_ms)
        state.mailbox.post(FixesArrived(Parcel((0, 0), state.race_id, tuple(newest)), trio.current_time(), stored=True))
        for message in waiting:
            if not isinstance(message, FixesArrived):
                state.mailbox.post(message)
        state.lose_dashboards()

    def _race_parked(self, state: RaceState) -> None:
        state.restored = False  # what comes while it is parked only reaches history
        for message in state.take_waiting():
            match message:
                case Subscribe(outbox=outbox, request_id=request_id, resync=resync):
                    self.subscribe(state.race_id, outbox, request_id, resync)
                    if not outbox.subscribed(state.race_id):
                        state.outboxes.pop(outbox, None)
                case Unsubscribe(outbox=outbox):
                    state.outboxes.pop(outbox, None)
        for outbox in state.outboxes:
            outbox.reply(Frame(events.error_event(ErrorCode.UNAVAILABLE, f"{STOPPED}: race {state.race_id}")))

    def _race_retired(self, state: RaceState) -> None:
        """The actor ended by itself; what came in between its last look and now starts it again."""
        del self.children[state.race_id]
        if state.mailbox:
            self.want(state)
        else:
            self._drop_if_unused(state)  # the next fix or dashboard restores it from the stores

    def want(self, state: RaceState) -> Child:
        """Start its actor. Where it was evicted, what its dashboards show may not be what the stores know."""
        if not state.restored:
            state.lose_dashboards()
        if len(self.children) >= self.max_races:
            self._evict_quietest()
        self._wanted.append(self._new_child(state))
        self._wake.set()
        return self.children[state.race_id]

    def _evict_quietest(self) -> None:
        """max_races bounds live state: the races that were quiet longest go, those that somebody watches last."""
        count = max(1, self.max_races // EVICTED_PART)
        log.warning("max_races reached, quietest races evicted", races=count, max_races=self.max_races)
        live = [self.states[race_id] for race_id in self.children]
        for state in heapq.nsmallest(count, live, key=lambda state: (bool(state.outboxes), state.quiet_since)):
            self._evict(state)

    def _evict(self, state: RaceState) -> None:
        """Its dashboards stay subscribed, to the state that takes its place."""
        child = self.children.pop(state.race_id)
        held = state.quarantine.held
        waiting = state.take_waiting() if held is None else [held, *state.take_waiting()]
        if state.refused and not state.restored:
            self.live_state.forget(state.race_id)
        outboxes, state.outboxes = state.outboxes, {}
        for message in waiting:
            self._store(message)
            match message:
                case Subscribe(outbox=outbox, request_id=request_id):
                    event = events.error_event(ErrorCode.UNAVAILABLE, "too many races at once", request_id)
                    outbox.refuse(state.race_id, Frame(event))
                case Unsubscribe(outbox=outbox):
                    outboxes.pop(outbox, None)
        unseen = [fix for message in waiting if isinstance(message, FixesArrived) for fix in message.parcel.fixes]
        skew_ms = state.live_positions.max_skew_ms
        self.live_state.post([fix for fix in unseen if fix.timestamp_ms - fix.arrived_ms <= skew_ms])
        if unseen or not state.complete or not state.window.empty:
            for outbox in outboxes:
                outbox.lose(state.race_id)
        if outboxes:
            heir = self._new_state(state.race_id)
            heir.refused, heir.outboxes = state.refused, outboxes
        else:
            del self.states[state.race_id]
        self._evicted.append(child)
        if state.found or not state.restored:
            child.scope.cancel()  # at once: what the stores answer would become live

    def _new_state(self, race_id: str) -> RaceState:
        state = RaceState(race_id, self.make_live_positions(), quiet_since=trio.current_time())
        self.states[race_id] = state
        return state

    def _drop_if_unused(self, state: RaceState) -> None:
        if not state.outboxes and not state.mailbox:
            self.states.pop(state.race_id, None)
