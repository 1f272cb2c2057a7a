"""The spool: fixes and rejections that wait on this node's disk for PostgreSQL.

The trio side of `spool_file`: one call at a time, each a single hop into a thread. A cancelled call is left to its
thread: all of it happens or nothing, and a disk that hangs cannot hold up a stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.history.spool.file import SpoolFile
from actors.history.spool.rows import SpooledBatch

log = structlog.get_logger("spool")

T = TypeVar("T")

CLOSE_S = 5.0
MANY_S = 0.1  # for which others wait who want the spool


class SpoolOnDisk:
    """`path`: the file, in a folder that exists. `max_bytes`: a put never makes file and log together larger."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._file = SpoolFile(path, max_bytes)
        self._limiter = trio.CapacityLimiter(1)

    @property
    def rows(self) -> int:
        """Fixes and rejections that are durable here."""
        return self._file.rows

    async def open(self) -> int:
        """Create or open the file; how many fixes and rejections are in it. Call it again to mend a damaged one.

        A damaged file is renamed, never deleted, and a new one begun. Raises SpoolUnavailable, SpoolFull.
        """
        return await self._call(self._file.open)

    async def put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> int:
        """All are on disk when this returns; how many were new. Raises SpoolFull, SpoolUnavailable: then none is.

        Of one cancelled, all may be there or none: put them again.
        """
        return await self._call(lambda: self._file.put(fixes, rejections))

    async def oldest(self, limit: int, after: int = 0) -> SpooledBatch:
        """At most `limit` rows with keys beyond `after`, fixes and rejections together. Raises SpoolUnavailable."""
        return await self._call(lambda: self._file.oldest(limit, after))

    async def remove(self, keys: Sequence[int]) -> None:
        """Their rows are in PostgreSQL. Keys already gone do not matter. Raises SpoolFull, SpoolUnavailable."""
        await self._call(lambda: self._file.remove(keys))

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]:
        """Each participant's greatest fix; those further ahead of their arrival than the skew do not count.

        Raises SpoolUnavailable.
        """
        return await self._call(lambda: self._file.newest(race_id, max_clock_skew_ms))

    async def newest_of_races(self, race_ids: Sequence[str], max_clock_skew_ms: int) -> dict[str, list[Fix] | None]:
        """The same of as many of the races as can be looked for in MANY_S, one at least. Never None."""
        return await self._call(lambda: self._file.newest_of_races(race_ids, max_clock_skew_ms, MANY_S))

    async def aclose(self) -> None:
        """Takes CLOSE_S at most, also when cancelled. What a hanging disk keeps open needs no closing to be safe."""
        with trio.move_on_after(CLOSE_S, shield=True) as closing:
            await self._call(self._file.close)
        if closing.cancelled_caught:
            log.warning("the disk of the spool does not answer, its file was left open")

    async def _call(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
