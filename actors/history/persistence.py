"""Persistence: parcels in, durable rows out, and word to the reader that they are settled.

Owns: the writing connection to PostgreSQL, and the spool. Takes in: parcels (fixes of a race, rejections). Sends out:
Settled, only after COMMIT, or after the spool is synced: while PostgreSQL is away (spooling.py), and of fixes for which
it has no partition (unplaced.py). With neither, nothing is settled, so nothing is acknowledged and the broker keeps the
rest.
A crash loses nothing: the batch in hand stays on the state and is written again; ids make that harmless.
Stops when cancelled: by then the reader has seen everything settled, or the drain was cut short.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import structlog
import trio

from actors.core.errors import RowRefused, StoreMisconfigured, StoreUnavailable
from actors.core.parcel import Parcel, ParcelId, PersistenceMessage, Settled
from actors.history.ahead import PartitionsAhead
from actors.history.batcher import Batcher, first_of
from actors.history.committer import Committed, Committer
from actors.history.partitions import set_apart
from actors.history.spooling import Spooling
from actors.telemetry.health import Health

log = structlog.get_logger("persistence")

RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
SETUP_RETRY_S = 2.0
HELD_RETRY_S = 5.0
TRIM_EVERY_S = 3600.0
NOTE_EVERY_S = 10.0
NOTE_PAUSE_S = 0.1  # between two of many parts


@attrs.define(eq=False)
class PersistenceState:
    """What outlives a crash of persistence. Owned by the supervisor."""

    batcher: Batcher
    writing: list[Parcel] = attrs.field(factory=list)  # the batch in hand
    held: dict[ParcelId, Parcel] = attrs.field(factory=dict)  # no partition, no spool: a part of what is in flight
    held_until: float = math.inf  # trio's clock: then they are written again


@attrs.define(eq=False)
class Persistence:
    """Owns the writing connection and the spool."""

    state: PersistenceState
    inbox: trio.MemoryReceiveChannel[PersistenceMessage]
    settle: Callable[[Settled], None]
    committer: Committer
    spooling: Spooling
    health: Health
    handled: int = 0  # parcels, for `status`

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            await self.spooling.open()
            nursery.start_soon(self.spooling.keep_draining)
            nursery.start_soon(self._trim)
            nursery.start_soon(self._note_partitions)
            nursery.start_soon(PartitionsAhead(self.committer.store, self.health).keep)
            while True:
                if not self.state.writing:
                    self.state.writing = await self._next()
                await self._write()

    async def _next(self) -> list[Parcel]:
        """A batch, filled until it is due; or some of what is held, the longest waiting first."""
        state, batcher = self.state, self.state.batcher
        while True:
            self._take_waiting(batcher.max_rows)
            if trio.current_time() >= state.held_until:
                return first_of(tuple(state.held.values()), batcher.max_rows)
            if batcher.due(trio.current_time()):
                return batcher.take()
            with trio.move_on_at(min(batcher.due_at(), state.held_until)):
                batcher.add(await self.inbox.receive(), trio.current_time())

    def _take_waiting(self, rows: int) -> None:
        batcher = self.state.batcher
        now = trio.current_time()
        while batcher.rows < rows:
            try:
                batcher.add(self.inbox.receive_nowait(), now)
            except trio.WouldBlock:
                return

    async def _write(self) -> None:
        """Make the batch in hand durable, however long that takes, then settle it, but for what has no partition."""
        state = self.state
        begun = self.committer.accepted
        done, stored = None, False
        wait_s = RETRY_FIRST_S
        while done is None:
            fixes = [fix for parcel in state.writing for fix in parcel.fixes]
            rejections = [rejection for parcel in state.writing for rejection in parcel.rejections]
            if self.spooling.wanted:
                tally = await self.spooling.put(fixes, rejections)
                done = None if tally is None else Committed(tally)
                continue
            started = trio.current_time()
            try:
                with self.spooling.patience():
                    done, stored = await self.committer.commit(fixes, rejections, begun), True
            except StoreUnavailable as trouble:
                self.spooling.gone(trouble, started, writing=True)
                await trio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MOST_S)
            except StoreMisconfigured as trouble:
                self.spooling.set_up_wrong(trouble, writing=True)
                await trio.sleep(SETUP_RETRY_S)
                # Is every row refused, or only those that were in the batch alone? What waits joins it.
                self._take_waiting(len(fixes) + len(rejections))
                state.writing += state.batcher.take()
        apart = set_apart(state.writing, {fix.id for fix in done.left})
        state.writing = apart.left
        self._settle(Settled(apart.whole, done.tally, apart.but))
        if apart.left:
            await self._keep(done)
        self.spooling.unplaced.hold([fix for parcel in state.held.values() for fix in parcel.fixes])
        if stored:
            self.spooling.written()

    def _settle(self, message: Settled) -> None:
        state = self.state
        self.handled += len(message.parcels)
        self.settle(message)
        for parcel in message.parcels if state.held else ():
            if state.held.pop(parcel, None) is not None:
                state.held_until = trio.current_time() if state.held else math.inf  # there may be more like this one

    async def _keep(self, done: Committed) -> None:
        """What the batch in hand is now has no partition: into the spool, or hold it for a while."""
        state = self.state
        tally = await self.spooling.put(done.left, (), away=False) if self.spooling.takes else None
        parcels, state.writing = state.writing, []
        if tally is not None:
            self._settle(Settled(tuple(parcel.id for parcel in parcels), tally))
            return
        new = [fix for parcel in parcels if parcel.id not in state.held for fix in parcel.fixes]
        if new:
            self.spooling.unplaced.say(new, done.partitions, "wait unacknowledged")
        for parcel in parcels:
            state.held.pop(parcel.id, None)
            state.held[parcel.id] = parcel
        now = trio.current_time()
        if not now < state.held_until < math.inf:
            state.held_until = now + HELD_RETRY_S

    async def _trim(self) -> None:
        while True:
            await trio.sleep(TRIM_EVERY_S)
            try:
                await self.committer.store.trim_rejections()
            except (StoreUnavailable, StoreMisconfigured, RowRefused) as trouble:
                log.warning("old rejections were not trimmed", why=str(trouble))

    async def _note_partitions(self) -> None:
        """Whether some were attached, dropped or truncated since: no trigger tells the list of races."""
        more = False
        while True:
            await trio.sleep(NOTE_PAUSE_S if more else NOTE_EVERY_S)
            more = False
            if self.health.components["postgres"].up:
                try:
                    more = await self.committer.store.note_partitions()
                except (StoreUnavailable, StoreMisconfigured, RowRefused) as trouble:
                    log.warning("the participants of partitions were not noted", why=str(trouble))
