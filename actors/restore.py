"""What a race knows when it starts: the greatest of what PostgreSQL, spool and Redis hold for each participant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import attrs
import trio

from actors.core.fix import Fix
from actors.core.standing import newest_of
from actors.errors import CacheUnavailable, SpoolUnavailable, StoreMisconfigured, StoreUnavailable

RESTORE_S = 3.0
"""A race does not wait longer than this for a store: it goes live with what it has and asks again later."""


class NewestInHistory(Protocol):
    """What a restore needs of the PostgreSQL reader."""

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]: ...


class NewestInCache(Protocol):
    """What a restore needs of the Redis driver."""

    async def newest(self, race_id: str) -> list[Fix]: ...


class NewestInSpool(Protocol):
    """What a restore needs of the spool."""

    async def newest(self, race_id: str, max_clock_skew_ms: int | None = None) -> list[Fix]: ...


@attrs.frozen
class Restorer:
    """Call it with a race id: (newest positions, True when PostgreSQL answered). Never raises for expected trouble.
    Fixes with the ids in `without` are left out.

    Redis not answering makes nothing incomplete: it is a cache.
    """

    history: NewestInHistory
    cache: NewestInCache
    max_clock_skew_ms: int
    spool: NewestInSpool | None = None

    async def __call__(self, race_id: str, without: Collection[bytes] = ()) -> tuple[Sequence[Fix], bool]:
        found: list[Fix] = []
        answered = False

        async def from_history() -> None:
            nonlocal answered
            try:
                found.extend(await self.history.newest(race_id, self.max_clock_skew_ms))
            except (StoreUnavailable, StoreMisconfigured):
                return
            answered = True

        async def from_cache() -> None:
            try:
                found.extend(await self.cache.newest(race_id))
            except CacheUnavailable:
                return

        async def from_spool(spool: NewestInSpool) -> None:
            try:
                found.extend(await spool.newest(race_id, self.max_clock_skew_ms))
            except SpoolUnavailable:
                return

        with trio.move_on_after(RESTORE_S):
            async with trio.open_nursery() as nursery:
                if self.spool is not None:
                    nursery.start_soon(from_spool, self.spool)
                nursery.start_soon(from_history)
                nursery.start_soon(from_cache)
        return newest_of(fix for fix in found if fix.id not in without), answered
