"""The spool, and the account of its rows that the metrics give: both change together, whoever crashes in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs
import structlog
import trio

from actors.core.errors import SpoolUnavailable
from actors.core.fix import Fix
from actors.core.parcel import Tally
from actors.core.rejection import Rejection
from actors.history.spool.rows import SpooledBatch
from actors.telemetry.health import SPOOL_IDLE, Health
from actors.telemetry.metrics import Metrics

log = structlog.get_logger("spool")


class Spool(Protocol):
    """The spool driver. Raises SpoolUnavailable, of which SpoolFull is one."""

    @property
    def rows(self) -> int: ...
    async def open(self) -> int: ...
    async def put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> int: ...
    async def oldest(self, limit: int, after: int = 0) -> SpooledBatch: ...
    async def remove(self, keys: Sequence[int]) -> None: ...


@attrs.define(eq=False)
class SpoolAccount:
    """Owned by Spooling."""

    spool: Spool
    metrics: Metrics
    health: Health
    _opened: bool = False
    _full: bool = False  # the last put was refused
    _accounted: int = 0  # rows of the spool that the metrics know of
    _turn: trio.Lock = attrs.field(factory=trio.Lock)  # of who changes the rows and the account

    @property
    def takes(self) -> bool:
        """Whether the spool took rows when it was asked last."""
        return self._opened and not self._full

    async def open(self) -> None:
        """Find what an earlier run left, once; a disk that gives trouble is to be asked again. And take rows again that
        were refused: somebody may have made room."""
        self._full = False
        if self._opened:
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
        self._recover()

    async def put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> Tally | None:
        """The rows are synced on this node when this returns a tally; None: the spool takes no more for now."""
        async with self._turn:
            try:
                new = await self.spool.put(fixes, rejections)
            except SpoolUnavailable as trouble:
                self._full = True
                self.health.down("spool", str(trouble))
                return None
            self._accounted += new
        return Tally(duplicate=len(fixes) + len(rejections) - new, spooled=new)

    async def remove(self, keys: Sequence[int], tally: Tally) -> None:
        """Rows that are in PostgreSQL, and what became of them there. Raises SpoolUnavailable."""
        async with self._turn:
            self._recover()
            await self.spool.remove(keys)
            self._accounted -= len(keys)
            self.metrics.count(tally)
            self.metrics.fixes_spooled.dec(len(keys))

    def _recover(self) -> None:
        """What nobody accounts for was left by an earlier run, or by a put whose caller crashed: recovered."""
        strays = self.spool.rows - self._accounted
        if strays > 0:
            self._accounted += strays
            self.metrics.fixes_recovered.inc(strays)
            self.metrics.fixes_spooled.inc(strays)
