"""Persistence: parcels in, durable rows out, and word to the reader that they are settled.

Owns: the writing connection to PostgreSQL, and the spool. Takes in: parcels (fixes of a race, rejections). Sends out:
Settled, only after COMMIT, or after the spool is synced while PostgreSQL is away (spooling.py). With neither, nothing
is settled, so nothing is acknowledged and the broker keeps the rest.
A crash loses nothing: the batch in hand stays on the desk and is written again; ids make that harmless.
Stops when cancelled: by then the reader has seen everything settled, or the drain was cut short.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import structlog
import trio

from actors.committing import Committer
from actors.core.batch import Batcher
from actors.errors import RowRefused, StoreMisconfigured, StoreUnavailable
from actors.health import Health
from actors.messages import Parcel, PersistenceMessage, Settled
from actors.spooling import Spooling

log = structlog.get_logger("persistence")

RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
SETUP_RETRY_S = 2.0
TRIM_EVERY_S = 3600.0


@attrs.define(eq=False)
class Desk:
    """What outlives a crash of persistence. Owned by the supervisor."""

    batcher: Batcher
    writing: list[Parcel] = attrs.field(factory=list)  # the batch in hand


@attrs.define(eq=False)
class Persistence:
    """The actor."""

    desk: Desk
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
            while True:
                if not self.desk.writing:
                    await self._collect()
                    self.desk.writing = self.desk.batcher.take()
                await self._write()

    async def _collect(self) -> None:
        """Fill the batch until one of its triggers fires."""
        batcher = self.desk.batcher
        while True:
            self._take_waiting(batcher.max_rows)
            if batcher.trigger(trio.current_time()) is not None:
                return
            with trio.move_on_at(batcher.due_at()):
                batcher.add(await self.inbox.receive(), trio.current_time())

    def _take_waiting(self, rows: int) -> None:
        batcher = self.desk.batcher
        now = trio.current_time()
        while batcher.rows < rows:
            try:
                batcher.add(self.inbox.receive_nowait(), now)
            except trio.WouldBlock:
                return

    async def _write(self) -> None:
        """Make the batch in hand durable, however long that takes, then settle it."""
        desk = self.desk
        begun = self.committer.accepted
        tally = None
        wait_s = RETRY_FIRST_S
        while tally is None:
            fixes = [fix for parcel in desk.writing for fix in parcel.fixes]
            rejections = [rejection for parcel in desk.writing for rejection in parcel.rejections]
            if self.spooling.wanted:
                tally = await self.spooling.put(fixes, rejections)
                continue
            started = trio.current_time()
            try:
                with self.spooling.patience():
                    tally = await self.committer.commit(fixes, rejections, begun)
                self.spooling.written()
            except StoreUnavailable as trouble:
                self.spooling.gone(trouble, started, writing=True)
                await trio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MOST_S)
            except StoreMisconfigured as trouble:
                self.spooling.set_up_wrong(trouble, writing=True)
                await trio.sleep(SETUP_RETRY_S)
                # Is every row refused, or only those that were in the batch alone? What waits joins it.
                self._take_waiting(len(fixes) + len(rejections))
                desk.writing += desk.batcher.take()
        parcels, desk.writing = desk.writing, []
        self.handled += len(parcels)
        self.settle(Settled(tuple(parcel.id for parcel in parcels), tally))

    async def _trim(self) -> None:
        while True:
            await trio.sleep(TRIM_EVERY_S)
            try:
                await self.committer.store.trim_rejections()
            except (StoreUnavailable, StoreMisconfigured, RowRefused) as trouble:
                log.warning("old rejections were not trimmed", why=str(trouble))
