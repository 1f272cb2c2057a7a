"""What happens while PostgreSQL is away: rows go to the spool on this node, and from there to PostgreSQL afterwards.

Whether it is away is known here, for all of persistence: from the first call that failed until rows are committed
again, or, where none wait, until it answers. Only "cannot be reached" counts; a wrong set-up is waited out without the
spool, because nobody knows what it will take.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import attrs
import structlog
import trio

from actors.committing import Committer
from actors.core.fix import Fix, Rejection
from actors.errors import SpoolUnavailable, StoreMisconfigured, StoreUnavailable
from actors.health import SPOOL_IDLE, Health
from actors.messages import Tally
from actors.metrics import Metrics
from actors.unplaced import Unplaced

log = structlog.get_logger("spool")

ASK_S = 1.0
"""How often PostgreSQL is asked whether it is back."""
ASK_SELDOM = 5
"""While it is there, and no row waits for it, it is asked so many times as rarely."""
PATIENCE_LEAST_S = 1.0
"""For an answer of PostgreSQL, however small [postgres] spool_after_s is."""
DRAIN_ROWS = 2_000
"""Out of the spool in one transaction, at most: half as many after one that failed, for a slow PostgreSQL."""


class SpooledBatch(Protocol):
    """The oldest rows of the spool."""

    @property
    def keys(self) -> Sequence[int]: ...  # of all, ascending
    @property
    def fix_keys(self) -> Sequence[int]: ...  # of the fixes, in their order
    @property
    def fixes(self) -> Sequence[Fix]: ...
    @property
    def rejections(self) -> Sequence[Rejection]: ...


class Spool(Protocol):
    """The spool driver. Raises SpoolUnavailable, of which SpoolFull is one."""

    @property
    def rows(self) -> int: ...
    async def open(self) -> int: ...
    async def put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> int: ...
    async def oldest(self, limit: int, after: int = 0) -> SpooledBatch: ...
    async def remove(self, keys: Sequence[int]) -> None: ...
    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]: ...


@attrs.define(eq=False)
class Spooling:
    """Owned by the supervisor: what it knows outlives a crash of persistence."""

    spool: Spool | None  # None: [postgres] spool = no
    committer: Committer
    metrics: Metrics
    health: Health
    after_s: float  # [postgres] spool_after_s
    unplaced: Unplaced = attrs.field(default=attrs.Factory(lambda of: Unplaced(of.metrics, of.health), takes_self=True))
    away_since: float | None = None  # trio's clock
    _opened: bool = False
    _accounted: int = 0  # rows of the spool that the metrics know of
    _removing: tuple[Sequence[int], Tally] | None = None  # committed, on their way out of the spool
    _turn: trio.Lock = attrs.field(factory=trio.Lock)  # the spool's rows and the account change together
    _full: bool = False  # the last put was refused; cleared whenever PostgreSQL is asked
    _batch_waits: bool = False  # persistence failed to write the batch in its hands: answering a question is not enough
    _drain_rows: int = DRAIN_ROWS
    _begun: int | None = None  # Committer.accepted when the oldest rows were first tried

    async def open(self) -> None:
        """Find what an earlier run left, once. A disk that gives trouble is asked again by keep_draining."""
        if self.spool is None or self._opened:
            return
        try:
            found = await self.spool.open()
        except SpoolUnavailable as trouble:
            self.health.down("spool", str(trouble))
            return
        self._opened = True
        self.health.up("spool", SPOOL_IDLE)
        if found:
            log.info("found rows in the spool", rows=found)
        self._account(self.spool)

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Around a write of persistence: raises StoreUnavailable when the spool is not to wait any longer for it."""
        within_s = max(self.after_s, PATIENCE_LEAST_S) if self.takes else math.inf
        try:
            with trio.fail_after(within_s):
                yield
        except trio.TooSlowError:
            raise StoreUnavailable(f"PostgreSQL did not take a batch within {within_s:g} s") from None

    def gone(self, trouble: StoreUnavailable, since: float, *, writing: bool = False) -> None:
        """A call to PostgreSQL that was begun at `since` failed: one that hung for long was away for as long.

        `writing`: it was persistence's batch, which waits.
        """
        self._batch_waits |= writing
        if self.away_since is None:
            self.away_since = since
        self.health.down("postgres", str(trouble))

    def set_up_wrong(self, trouble: StoreMisconfigured, *, writing: bool = False) -> None:
        """It is there, but not as it has to be. `writing`: as above."""
        self._batch_waits |= writing
        self.away_since = None
        self.health.down("postgres", f"set-up: {trouble}")
        if self.health.components["spool"].up:
            self.health.up("spool", SPOOL_IDLE)

    def written(self) -> None:
        """Persistence's batch is committed, but for what it holds."""
        self._batch_waits = False
        self._back()

    def _back(self) -> None:
        if not self._batch_waits:
            self.away_since = None
            self.unplaced.tell()

    @property
    def wanted(self) -> bool:
        """PostgreSQL has been away for long enough, and the spool takes rows."""
        return self.takes and self.away_since is not None and trio.current_time() - self.away_since >= self.after_s

    @property
    def takes(self) -> bool:
        """Whether the spool took rows when it was asked last."""
        return self.spool is not None and self._opened and not self._full

    @property
    def _rows_wait(self) -> bool:
        """Rows for which there is a partition, as far as is known."""
        return self._removing is not None or (self.spool is not None and self.spool.rows > self.unplaced.spooled)

    async def put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection], *, away: bool = True) -> Tally | None:
        """The rows are synced on this node when this returns a tally; None: the spool takes no more for now.

        Not `away`: PostgreSQL is there, and has no partition for them.
        """
        assert self.spool is not None
        async with self._turn:
            try:
                new = await self.spool.put(fixes, rejections)
            except SpoolUnavailable as trouble:
                self._full = True
                self.health.down("spool", str(trouble))
                return None
            self._accounted += new
        if away:
            self._batch_waits = False  # the drain will tell when PostgreSQL takes rows again
            self.health.up("spool", f"in use: {self.spool.rows} rows")
        return Tally(duplicate=len(fixes) + len(rejections) - new, spooled=new)

    def _account(self, spool: Spool) -> None:
        """What nobody accounts for was left by an earlier run, or by a put whose caller crashed: recovered."""
        strays = spool.rows - self._accounted
        if strays > 0:
            self._accounted += strays
            self.metrics.fixes_recovered.inc(strays)
            self.metrics.fixes_spooled.inc(strays)

    async def keep_draining(self) -> None:
        """Ask whether PostgreSQL is there, and bring to it what the spool holds, for ever."""
        while True:
            await self.open()
            self._full = False  # somebody may have made room on the disk
            started = trio.current_time()
            try:
                await self.committer.store.ping()
                await self._look_for_partitions()
                while self.spool is not None and self._rows_wait:
                    await self._drain_some(self.spool)
                self._back()
            except StoreUnavailable as trouble:
                self.gone(trouble, started)
            except StoreMisconfigured as trouble:
                self.set_up_wrong(trouble)
            except SpoolUnavailable as trouble:
                self.health.down("spool", str(trouble))
                self._back()
            for _ in range(ASK_SELDOM):
                await trio.sleep(ASK_S)
                if self._rows_wait or not self.health.components["postgres"].up:
                    break

    async def _look_for_partitions(self) -> None:
        if self.unplaced.spooled and await self.committer.store.partitions() != self.unplaced.partitions:
            self.unplaced.try_again()

    async def _drain_some(self, spool: Spool) -> None:
        if self._removing is None:
            if self._begun is None:
                self._begun = self.committer.accepted
            batch = await spool.oldest(self._drain_rows, self.unplaced.passed_to)
            try:
                done = await self.committer.commit(batch.fixes, batch.rejections, self._begun)
            except StoreUnavailable:
                self._drain_rows = max(1, self._drain_rows // 2)
                raise
            self._drain_rows = min(DRAIN_ROWS, self._drain_rows + self._drain_rows // 10 + 1)
            left = {fix.id for fix in done.left}
            stay = {key for key, fix in zip(batch.fix_keys, batch.fixes, strict=True) if fix.id in left}
            self._removing, self._begun = ([key for key in batch.keys if key not in stay], done.tally), None
            self.unplaced.passed(batch.keys[-1], done)
            self._back()
        async with self._turn:
            self._account(spool)
            keys, tally = self._removing
            await spool.remove(keys)
            self._removing = None
            self._accounted -= len(keys)
            self.metrics.count(tally)
            self.metrics.fixes_spooled.dec(len(keys))
        if not self._rows_wait:
            if not spool.rows:
                log.info("the spool is empty: history is complete")
            self.health.up("spool", SPOOL_IDLE)
