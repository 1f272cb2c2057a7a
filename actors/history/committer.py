"""One batch into PostgreSQL: rows that it refuses are found and become rejections, unless the set-up is at fault; rows
that have no partition are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import attrs
import structlog
import trio

from actors.core.errors import NoPartition, Partitions, RejectionCode, RowRefused, StoreMisconfigured
from actors.core.fix import Fix
from actors.core.parcel import Tally
from actors.core.rejection import Rejection, poison
from actors.telemetry.metrics import Metrics

log = structlog.get_logger("persistence")

REFUSALS_A_MINUTE = 10
"""More refused rows than this are a fault of the set-up, not of the rows."""


class Store(Protocol):
    """The PostgreSQL driver. Raises StoreUnavailable, StoreMisconfigured, RowRefused, and `store` NoPartition."""

    async def ping(self) -> None:
        """Connect, apply what the schema lacks, and ask for an answer."""
        ...

    async def store(self, fixes: Sequence[Fix]) -> int:
        """How many were new; the others were there already, or twice in the call."""
        ...

    def lost(self) -> int:
        """Fixes that it had confirmed, did not have any more, and got again, since this was asked the last time."""
        ...

    async def reject(self, rejections: Sequence[Rejection]) -> int: ...
    async def trim_rejections(self) -> None: ...
    async def partitions(self) -> Partitions: ...
    async def note_partitions(self) -> bool: ...
    async def make_partitions(self) -> list[str]: ...


@attrs.define
class Committed:
    """What became of a batch."""

    tally: Tally  # of all but what is left
    left: Sequence[Fix] = ()  # PostgreSQL has no partition for them
    partitions: Partitions | None = None  # that there were then


@attrs.define
class _Parts:
    """What became of its fixes so far."""

    committed: int = 0
    refused: dict[bytes, tuple[Fix, str]] = attrs.field(factory=dict)  # id -> the fix, and why
    left: set[bytes] = attrs.field(factory=set)
    partitions: Partitions | None = None


@attrs.define(eq=False)
class Committer:
    """Used for new batches and for those that waited in the spool."""

    store: Store
    metrics: Metrics
    refused: Callable[[Sequence[Fix]], None]  # for good: their rejections are committed
    told: Callable[[Sequence[Fix], Sequence[Rejection]], None]  # after each commit
    accepted: int = 0  # rows that PostgreSQL took, ever; it looks at what is in a row before it looks for its id
    _refusals: dict[bytes, float] = attrs.field(factory=dict)  # rows that became poison in the last minute -> when

    async def commit(self, fixes: Sequence[Fix], rejections: Sequence[Rejection], begun: int) -> Committed:
        """All of it but what is left is committed when this returns. Raises StoreUnavailable or StoreMisconfigured;
        then call again: what was committed meanwhile counts as duplicate.

        `begun`: `accepted` when this batch was first tried. Rows accepted since show that the set-up is right.
        """
        parts = await self._store(fixes, begun)
        refused = parts.refused.values()
        rows = [*rejections, *(poison(fix, "", f"refused by PostgreSQL: {why}") for fix, why in refused)]
        if rows:
            try:
                await self.store.reject(rows)
            except RowRefused as refusal:
                raise StoreMisconfigured(f"rejections are refused: {refusal}") from refusal
        codes = Counter(row.code for row in rows)
        left = [fix for fix in fixes if fix.id in parts.left] if parts.left else []
        taken = fixes
        if parts.refused:
            self._refusals |= dict.fromkeys(parts.refused, trio.current_time())
            self.refused([fix for fix, _ in refused])
            copies = [fix for fix in fixes if fix.id in parts.refused]
            codes[RejectionCode.POISON] += len(copies) - len(refused)
            rejections = [*rejections, *(poison(fix, "") for fix in copies)]  # each in the form in which it was sent
        if left or parts.refused:
            taken = [fix for fix in fixes if fix.id not in parts.refused and fix.id not in parts.left]
        self.told(taken, rejections)
        return Committed(Tally(parts.committed, len(taken) - parts.committed, codes), left, parts.partitions)

    async def _store(self, fixes: Sequence[Fix], begun: int) -> _Parts:
        """What is refused is tried twice: the set-up may have been mended after the first of them was refused."""
        found = _Parts()
        if not fixes:
            return found
        started = trio.current_time()
        reason = await self._try(fixes, found)
        if found.refused and self.accepted > begun:
            suspects = [fix for fix in fixes if fix.id in found.refused]
            found.refused.clear()
            reason = await self._try(suspects, found)
        if found.refused:
            if self.accepted == begun:
                raise StoreMisconfigured(f"{len(found.refused)} rows refused and no other one accepted: {reason}")
            log.error("rows refused by PostgreSQL become rejections", rows=len(found.refused), reason=reason)
        self.metrics.commit_seconds.observe(trio.current_time() - started)
        self.metrics.fixes_written_again.inc(self.store.lost())
        return found

    async def _try(self, fixes: Sequence[Fix], found: _Parts) -> str:
        """Halves a batch with a refused row until the row is found; why the last one was refused. One that was sent
        again while it waited is in the batch several times, and in one half once: so all of them have the same fate."""
        reason = ""
        parts: list[Sequence[Fix]] = [fixes]
        while parts:
            part = parts.pop()
            try:
                new = await self.store.store(part)
            except NoPartition as missing:
                found.left.update(missing.ids)
                found.partitions = found.partitions or missing.partitions  # the first: more may be there by now
                rest = [fix for fix in part if fix.id not in found.left]
                parts += [rest] if rest else []
                continue
            except RowRefused as refusal:
                rows = list({fix.id: fix for fix in part}.values())
                if len(rows) == 1:
                    reason = str(refusal)
                    found.refused[rows[0].id] = rows[0], reason
                    self._check_rare(found.refused, reason)
                else:
                    parts += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                continue
            found.committed += new
            self.accepted += len(part)
        return reason

    def _check_rare(self, refused: Collection[bytes], reason: str) -> None:
        """Rows are poison only while refusals stay rare; else the set-up is wrong: a column that a DBA made
        narrower must not make rejections of a whole race."""
        now = trio.current_time()
        self._refusals = {key: at for key, at in self._refusals.items() if now - at <= 60}
        if len(self._refusals.keys() | refused) > REFUSALS_A_MINUTE:
            raise StoreMisconfigured(f"more than {REFUSALS_A_MINUTE} rows refused within a minute: {reason}")
