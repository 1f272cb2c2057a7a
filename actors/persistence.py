"""Persistence: parcels in, committed rows out, and word to the reader that they are settled.

Owns: the writing connection to PostgreSQL. Takes in: parcels (fixes of a race, rejections). Sends out: Settled, only
after COMMIT. While PostgreSQL is away nothing is settled, so nothing is acknowledged and the broker keeps the rest.
A crash loses nothing: the batch in hand stays on the desk and is written again; ids make that harmless.
Stops when cancelled: by then the reader has seen everything settled, or the drain was cut short.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import attrs
import structlog
import trio

from actors.core.batch import Batcher
from actors.core.decode import poison
from actors.core.fix import Fix, Rejection
from actors.errors import RowRefused, StoreMisconfigured, StoreUnavailable
from actors.health import Health
from actors.messages import Parcel, PersistenceMessage, Settled
from actors.metrics import Metrics

log = structlog.get_logger("persistence")

T = TypeVar("T")

RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
SETUP_RETRY_S = 2.0
PING_S = 5.0
"""With nothing to write, PostgreSQL is asked this often whether it is there."""
REFUSALS_A_MINUTE = 10
"""More refused rows than this are a fault of the set-up, not of the rows."""
TRIM_EVERY_S = 3600.0


class Stored(Protocol):
    """What became of the fixes of one call."""

    @property
    def committed(self) -> int: ...
    @property
    def duplicate(self) -> int: ...


class Store(Protocol):
    """What persistence needs of the PostgreSQL driver. Raises StoreUnavailable, StoreMisconfigured, RowRefused."""

    async def ping(self) -> None:
        """Connect, apply what the schema lacks, and ask for an answer."""
        ...

    async def store(self, fixes: Sequence[Fix]) -> Stored: ...
    async def reject(self, rejections: Sequence[Rejection]) -> int: ...
    async def trim_rejections(self) -> None: ...


@attrs.define(eq=False)
class Desk:
    """What outlives a crash of persistence. Owned by the supervisor."""

    batcher: Batcher
    writing: list[Parcel] = attrs.field(factory=list)  # the batch in hand
    refused: list[Fix] = attrs.field(factory=list)  # of the batch in hand: refused by PostgreSQL one by one
    refusals: deque[float] = attrs.field(factory=deque)  # when rows became poison, trio's clock, the last minute


@attrs.define(eq=False)
class Persistence:
    """The actor."""

    desk: Desk
    inbox: trio.MemoryReceiveChannel[PersistenceMessage]
    settle: Callable[[Settled], None]
    store: Store
    metrics: Metrics
    health: Health
    handled: int = 0  # parcels, for `status`

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._trim)
            await self._persist(self.store.ping)
            while True:
                if not self.desk.writing:
                    await self._collect()
                    self.desk.writing = self.desk.batcher.take()
                await self._write()

    async def _collect(self) -> None:
        """Fill the batch until one of its triggers fires."""
        batcher = self.desk.batcher
        while True:
            while batcher.rows < batcher.max_rows:
                try:
                    batcher.add(self.inbox.receive_nowait(), trio.current_time())
                except trio.WouldBlock:
                    break
            if batcher.trigger(trio.current_time()) is not None:
                return
            with trio.move_on_at(min(batcher.due_at(), trio.current_time() + PING_S)) as waited:
                batcher.add(await self.inbox.receive(), trio.current_time())
            if waited.cancelled_caught and not batcher.parcels:
                await self._persist(self.store.ping)

    async def _write(self) -> None:
        """Write the batch in hand, however long PostgreSQL is away, then settle it."""
        desk = self.desk
        parcels = desk.writing
        fixes = [fix for parcel in parcels for fix in parcel.fixes]
        rejections = [rejection for parcel in parcels for rejection in parcel.rejections]
        committed, duplicate = await self._persist(lambda: self._store(fixes))
        rejections += [poison(fix, "") for fix in desk.refused]
        if rejections:
            await self._persist(lambda: self.store.reject(rejections))
        self.metrics.fixes_committed.inc(committed)
        self.metrics.fixes_duplicate.inc(duplicate)
        for code, count in Counter(rejection.code for rejection in rejections).items():
            self.metrics.fixes_rejected.labels(code=code).inc(count)
        self.handled += len(parcels)
        desk.writing = []
        desk.refused = []
        self.settle(Settled(tuple(parcel.id for parcel in parcels)))

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call until it succeeds, however long PostgreSQL is away or wrongly set up."""
        wait_s = RETRY_FIRST_S
        while True:
            try:
                result = await call()
            except StoreUnavailable as trouble:
                self.health.down("postgres", str(trouble))
                await trio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MOST_S)
            except StoreMisconfigured as trouble:
                self.health.down("postgres", f"set-up: {trouble}")
                await trio.sleep(SETUP_RETRY_S)
            else:
                self.health.up("postgres")
                return result

    async def _store(self, fixes: Sequence[Fix]) -> tuple[int, int]:
        """(committed, duplicate). Rows that PostgreSQL refuses end on the desk; all refused is a fault of set-up."""
        if not fixes:
            return 0, 0
        started = trio.current_time()
        refused: list[Fix] = []
        committed = duplicate = 0
        parts: list[Sequence[Fix]] = [fixes]
        while parts:
            part = parts.pop()
            try:
                stored = await self.store.store(part)
            except RowRefused as refusal:
                if len(part) == 1:
                    refused.append(part[0])
                    reason = str(refusal)
                else:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            committed += stored.committed
            duplicate += stored.duplicate
        if refused:
            self._judge(refused, len(fixes), reason)
        self.desk.refused = refused
        self.metrics.commit_seconds.observe(trio.current_time() - started)
        return committed, duplicate

    def _judge(self, refused: list[Fix], of: int, reason: str) -> None:
        """Poison only if others were accepted and refusals stay rare; else the set-up is wrong (DESIGN rule 14)."""
        now = trio.current_time()
        refusals = self.desk.refusals
        while refusals and now - refusals[0] > 60:
            refusals.popleft()
        if len(refused) == of or len(refusals) + len(refused) > REFUSALS_A_MINUTE:
            raise StoreMisconfigured(f"{len(refused)} of {of} rows refused: {reason}")
        refusals.extend([now] * len(refused))
        log.error("rows refused by PostgreSQL become rejections", rows=len(refused), reason=reason)

    async def _trim(self) -> None:
        while True:
            await trio.sleep(TRIM_EVERY_S)
            try:
                await self.store.trim_rejections()
            except (StoreUnavailable, StoreMisconfigured, RowRefused) as trouble:
                log.warning("old rejections were not trimmed", why=str(trouble))
