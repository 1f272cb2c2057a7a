"""What happens while PostgreSQL is away: rows go to the spool on this node, and from there to PostgreSQL afterwards.

Joins the breaker (is it away?), the spool with the account of its rows, and the drain; asks PostgreSQL whether it is
back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from actors.core.errors import SpoolUnavailable, StoreMisconfigured, StoreUnavailable
from actors.core.fix import Fix
from actors.core.parcel import Tally
from actors.core.rejection import Rejection
from actors.history.breaker import Breaker
from actors.history.committer import Committer
from actors.history.drain import Drain
from actors.history.spool_account import Spool, SpoolAccount
from actors.history.unplaced import Unplaced
from actors.telemetry.health import SPOOL_IDLE, Health
from actors.telemetry.metrics import Metrics

ASK_S = 1.0
"""How often PostgreSQL is asked whether it is back."""
ASK_SELDOM = 5
"""While it is there, and no row waits for it, it is asked so many times as rarely."""


class Spooling:
    """Owned by the supervisor: what it knows outlives a crash of persistence."""

    def __init__(
        self,
        spool: Spool | None,
        committer: Committer,
        metrics: Metrics,
        health: Health,
        after_s: float,
        emptied: Callable[[], None] = lambda: None,
    ) -> None:
        """Without a spool: `[postgres] spool = no`. `after_s`: its spool_after_s. `emptied` is called when all that was
        in the spool is in PostgreSQL."""
        self._store = committer.store
        self._health = health
        self._breaker = Breaker(after_s)
        self.unplaced = Unplaced(metrics, health)
        self._account = SpoolAccount(spool, metrics, health) if spool is not None else None
        self._drain = Drain(self._account, committer, self.unplaced, emptied) if self._account is not None else None

    async def open(self) -> None:
        """Find what an earlier run left. A disk that gives trouble is asked again by keep_draining."""
        if self._account is not None:
            await self._account.open()

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Around a write of persistence: raises StoreUnavailable when the spool is not to wait any longer for it."""
        within_s = self._breaker.patience_s if self.takes else math.inf
        try:
            with trio.fail_after(within_s):
                yield
        except trio.TooSlowError:
            raise StoreUnavailable(f"PostgreSQL did not take a batch within {within_s:g} s") from None

    def gone(self, trouble: StoreUnavailable, since: float, *, writing: bool = False) -> None:
        """A call to PostgreSQL that was begun at `since` failed. `writing`: it was persistence's batch, which waits."""
        self._breaker.failed(since, writing=writing)
        self._health.down("postgres", str(trouble))

    def set_up_wrong(self, trouble: StoreMisconfigured, *, writing: bool = False) -> None:
        """It is there, but not as it has to be. `writing`: as above."""
        self._breaker.set_up_wrong(writing=writing)
        self._health.down("postgres", f"set-up: {trouble}")
        if self._health.components["spool"].up:
            self._health.up("spool", SPOOL_IDLE)

    def written(self) -> None:
        """Persistence's batch is committed, but for what it holds."""
        self._breaker.committed()
        self.unplaced.tell()

    @property
    def wanted(self) -> bool:
        """PostgreSQL has been away for long enough, and the spool takes rows."""
        return self.takes and self._breaker.is_open(trio.current_time())

    @property
    def takes(self) -> bool:
        """Whether the spool took rows when it was asked last."""
        return self._account is not None and self._account.takes

    async def put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection], *, away: bool = True) -> Tally | None:
        """The rows are synced on this node when this returns a tally; None: the spool takes no more for now.

        Not `away`: PostgreSQL is there, and has no partition for them.
        """
        assert self._account is not None
        tally = await self._account.put(fixes, rejections)
        if away and tally is not None:
            self._breaker.spooled()
            self._health.up("spool", f"in use: {self._account.spool.rows} rows")
        return tally

    async def keep_draining(self) -> None:
        """Ask whether PostgreSQL is there, and bring to it what the spool holds, for ever."""
        while True:
            await self.open()
            started = trio.current_time()
            try:
                await self._store.ping()
                await self._look_for_partitions()
                while self._drain is not None and self._drain.rows_wait:
                    await self._drain.commit()
                    self._back()
                    await self._drain.remove()
                self._back()
            except StoreUnavailable as trouble:
                self.gone(trouble, started)
            except StoreMisconfigured as trouble:
                self.set_up_wrong(trouble)
            except SpoolUnavailable as trouble:
                self._health.down("spool", str(trouble))
                self._back()
            for _ in range(ASK_SELDOM):
                await trio.sleep(ASK_S)
                if self._rows_wait or not self._health.components["postgres"].up:
                    break

    @property
    def _rows_wait(self) -> bool:
        return self._drain is not None and self._drain.rows_wait

    def _back(self) -> None:
        if self._breaker.answered():
            self.unplaced.tell()

    async def _look_for_partitions(self) -> None:
        if self.unplaced.spooled and await self._store.partitions() != self.unplaced.partitions:
            self.unplaced.try_again()
