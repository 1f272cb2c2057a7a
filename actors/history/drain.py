"""Out of the spool: its rows to PostgreSQL, the oldest first, and removed when they are committed there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import structlog

from actors.core.errors import StoreUnavailable
from actors.core.parcel import Tally
from actors.history.committer import Committer
from actors.history.spool_account import SpoolAccount
from actors.history.unplaced import Unplaced
from actors.telemetry.health import SPOOL_IDLE

log = structlog.get_logger("spool")

DRAIN_ROWS = 2_000
"""Out of the spool in one transaction, at most: half as many after one that failed, for a slow PostgreSQL."""


@attrs.define(eq=False)
class Drain:
    """Owned by Spooling."""

    account: SpoolAccount
    committer: Committer
    unplaced: Unplaced
    emptied: Callable[[], None]  # told when nothing waits any more
    _rows: int = DRAIN_ROWS
    _begun: int | None = None  # Committer.accepted when the oldest rows were first tried
    _removing: tuple[Sequence[int], Tally] | None = None  # committed, on their way out of the spool

    @property
    def rows_wait(self) -> bool:
        """Rows for which there is a partition, as far as is known."""
        return self._removing is not None or self.account.spool.rows > self.unplaced.spooled

    async def commit(self) -> None:
        """Some rows, unless `remove` did not come to its end. Raises StoreUnavailable, StoreMisconfigured,
        SpoolUnavailable."""
        if self._removing is not None:
            return
        if self._begun is None:
            self._begun = self.committer.accepted
        batch = await self.account.spool.oldest(self._rows, self.unplaced.passed_to)
        try:
            done = await self.committer.commit(batch.fixes, batch.rejections, self._begun)
        except StoreUnavailable:
            self._rows = max(1, self._rows // 2)
            raise
        self._rows = min(DRAIN_ROWS, self._rows + self._rows // 10 + 1)
        left = {fix.id for fix in done.left}
        stay = {key for key, fix in zip(batch.fix_keys, batch.fixes, strict=True) if fix.id in left}
        self._removing, self._begun = ([key for key in batch.keys if key not in stay], done.tally), None
        self.unplaced.passed(batch.keys[-1], done)

    async def remove(self) -> None:
        """What `commit` brought to PostgreSQL. Raises SpoolUnavailable: then call it again."""
        assert self._removing is not None
        await self.account.remove(*self._removing)
        self._removing = None
        if not self.rows_wait:
            if not self.account.spool.rows:
                log.info("the spool is empty: history is complete")
            self.account.health.up("spool", SPOOL_IDLE)
            self.emptied()
