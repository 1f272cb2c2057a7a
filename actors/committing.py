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
    refused: Callable[[Sequence[Fix]], None] = lambda _fixes: None  # for good: their rejections are committed
    told: Callable[[Sequence[Fix], Sequence[Rejection]], None] = lambda _fixes, _rejections: None  # after each commit
    accepted: int = 0  # rows that were new in PostgreSQL, ever
    _refusals: deque[float] = attrs.field(factory=deque)  # when rows became poison, trio's clock, the last minute

    async def commit(self, fixes: Sequence[Fix], rejections: Sequence[Rejection], begun: int) -> Tally:
        """All of it is committed when this returns. Raises StoreUnavailable or StoreMisconfigured; then call again:
        what was committed meanwhile counts as duplicate.

        `begun`: `accepted` when this batch was first tried. Rows accepted since show that the set-up is right.
        """
        committed, duplicate, refused = await self._store(fixes, begun)
        rejections = [*rejections, *(poison(fix, "") for fix in refused)]
        if rejections:
            try:
                await self.store.reject(rejections)
            except RowRefused as refusal:
                raise StoreMisconfigured(f"rejections are refused: {refusal}") from refusal
        if refused:
            self._refusals.extend([trio.current_time()] * len(refused))
            self.refused(refused)
        self.told([fix for fix in fixes if fix not in refused] if refused else fixes, rejections)
        return Tally(committed, duplicate, Counter(rejection.code for rejection in rejections))

    async def _store(self, fixes: Sequence[Fix], begun: int) -> tuple[int, int, list[Fix]]:
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
                    self._check_rare(len(refused), reason)
                else:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            committed += stored.committed
            duplicate += stored.duplicate
            self.accepted += stored.committed
        if refused:
            if self.accepted == begun:
                raise StoreMisconfigured(f"{len(refused)} rows refused and no other one accepted: {reason}")
            log.error("rows refused by PostgreSQL become rejections", rows=len(refused), reason=reason)
        self.metrics.commit_seconds.observe(trio.current_time() - started)
        return committed, duplicate, refused

    def _check_rare(self, refused: int, reason: str) -> None:
        """Rows are poison only while refusals stay rare; else the set-up is wrong (DESIGN rule 14)."""
        now = trio.current_time()
        while self._refusals and now - self._refusals[0] > 60:
            self._refusals.popleft()
        if len(self._refusals) + refused > REFUSALS_A_MINUTE:
            raise StoreMisconfigured(f"more than {REFUSALS_A_MINUTE} rows refused within a minute: {reason}")
