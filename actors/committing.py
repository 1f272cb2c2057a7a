"""One batch into PostgreSQL: rows that it refuses are found and become rejections, unless the set-up is at fault."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import structlog
import trio

from actors.core.decode import poison
from actors.core.fix import Fix, Rejection
from actors.errors import RowRefused, StoreMisconfigured
from actors.messages import Tally
from actors.metrics import Metrics

log = structlog.get_logger("persistence")

REFUSALS_A_MINUTE = 10
"""More refused rows than this are a fault of the set-up, not of the rows."""


class Stored(Protocol):
    """What became of the fixes of one call."""

    @property
    def committed(self) -> int: ...
    @property
    def duplicate(self) -> int: ...


class Store(Protocol):
    """The PostgreSQL driver. Raises StoreUnavailable, StoreMisconfigured, RowRefused."""

    async def ping(self) -> None:
        """Connect, apply what the schema lacks, and ask for an answer."""
        ...

    async def store(self, fixes: Sequence[Fix]) -> Stored: ...
    async def reject(self, rejections: Sequence[Rejection]) -> int: ...
    async def trim_rejections(self) -> None: ...


@attrs.define(eq=False)
class Committer:
    """Used for new batches and for those that waited in the spool."""

    store: Store
    metrics: Metrics
    told: Callable[[Sequence[Fix], Sequence[Rejection]], None] = lambda _fixes, _rejections: None  # after each commit
    _refusals: deque[float] = attrs.field(factory=deque)  # when rows became poison, trio's clock, the last minute

    async def commit(self, fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> Tally:
        """All of it is committed when this returns. Raises StoreUnavailable or StoreMisconfigured; then call again:
        what was committed meanwhile counts as duplicate."""
        committed, duplicate, refused = await self._store(fixes)
        rejections = [*rejections, *(poison(fix, "") for fix in refused)]
        if rejections:
            await self.store.reject(rejections)
        self.told([fix for fix in fixes if fix not in refused] if refused else fixes, rejections)
        return Tally(committed, duplicate, Counter(rejection.code for rejection in rejections))

    async def _store(self, fixes: Sequence[Fix]) -> tuple[int, int, list[Fix]]:
        """(committed, duplicate, refused): halves a batch with a refused row until the row is found."""
        if not fixes:
            return 0, 0, []
        started = trio.current_time()
        refused: list[Fix] = []
        reason = ""
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
        self.metrics.commit_seconds.observe(trio.current_time() - started)
        return committed, duplicate, refused

    def _judge(self, refused: list[Fix], of: int, reason: str) -> None:
        """Poison only if others were accepted and refusals stay rare; else the set-up is wrong (DESIGN rule 14)."""
        now = trio.current_time()
        while self._refusals and now - self._refusals[0] > 60:
            self._refusals.popleft()
        if len(refused) == of or len(self._refusals) + len(refused) > REFUSALS_A_MINUTE:
            raise StoreMisconfigured(f"{len(refused)} of {of} rows refused: {reason}")
        self._refusals.extend([now] * len(refused))
        log.error("rows refused by PostgreSQL become rejections", rows=len(refused), reason=reason)
