"""One batch into PostgreSQL: rows that it refuses are found and become rejections, unless the set-up is at fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import attrs
import structlog
import trio

from actors.core.decode import poison
from actors.core.fix import Fix, Rejection
from actors.errors import RejectionCode, RowRefused, StoreMisconfigured
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
    accepted: int = 0  # rows that PostgreSQL took, ever; it looks at what is in a row before it looks for its id
    _refusals: dict[bytes, float] = attrs.field(factory=dict)  # rows that became poison in the last minute -> when

    async def commit(self, fixes: Sequence[Fix], rejections: Sequence[Rejection], begun: int) -> Tally:
        """All of it is committed when this returns. Raises StoreUnavailable or StoreMisconfigured; then call again:
        what was committed meanwhile counts as duplicate.

        `begun`: `accepted` when this batch was first tried. Rows accepted since show that the set-up is right.
        """
        committed, duplicate, refused = await self._store(fixes, begun)
        rejections = [*rejections, *(poison(fix, "", f"refused by PostgreSQL: {why}") for fix, why in refused)]
        if rejections:
            try:
                await self.store.reject(rejections)
            except RowRefused as refusal:
                raise StoreMisconfigured(f"rejections are refused: {refusal}") from refusal
        codes = Counter(rejection.code for rejection in rejections)
        taken = fixes
        if refused:
            ids = {fix.id for fix, _ in refused}
            self._refusals |= dict.fromkeys(ids, trio.current_time())
            self.refused([fix for fix, _ in refused])
            taken = [fix for fix in fixes if fix.id not in ids]
            codes[RejectionCode.POISON] += len(fixes) - len(taken) - len(refused)
        self.told(taken, rejections)
        return Tally(committed, duplicate, codes)

    async def _store(self, fixes: Sequence[Fix], begun: int) -> tuple[int, int, list[tuple[Fix, str]]]:
        """(committed, duplicate, refused and why): halves a batch with a refused row until the row is found. One that
        was sent again while it waited is in the batch several times, and refused once."""
        if not fixes:
            return 0, 0, []
        started = trio.current_time()
        refused: dict[bytes, tuple[Fix, str]] = {}
        reason = ""
        committed = duplicate = 0
        parts: list[Sequence[Fix]] = [fixes]
        while parts:
            part = parts.pop()
            try:
                stored = await self.store.store(part)
            except RowRefused as refusal:
                if len(part) == 1:
                    reason = str(refusal)
                    refused[part[0].id] = part[0], reason
                    self._check_rare(refused, reason)
                else:
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            committed += stored.committed
            duplicate += stored.duplicate
            self.accepted += len(part)
        if refused:
            if self.accepted == begun:
                raise StoreMisconfigured(f"{len(refused)} rows refused and no other one accepted: {reason}")
            log.error("rows refused by PostgreSQL become rejections", rows=len(refused), reason=reason)
        self.metrics.commit_seconds.observe(trio.current_time() - started)
        return committed, duplicate, list(refused.values())

    def _check_rare(self, refused: Collection[bytes], reason: str) -> None:
        """Rows are poison only while refusals stay rare; else the set-up is wrong (DESIGN rule 14)."""
        now = trio.current_time()
        self._refusals = {key: at for key, at in self._refusals.items() if now - at <= 60}
        if len(self._refusals.keys() | refused) > REFUSALS_A_MINUTE:
            raise StoreMisconfigured(f"more than {REFUSALS_A_MINUTE} rows refused within a minute: {reason}")
