"""What a race knows when it starts: the greatest of each participant, in flight, in spool, PostgreSQL and Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

import attrs
import trio

from actors.core.errors import CacheUnavailable, SpoolUnavailable, StoreMisconfigured, StoreUnavailable
from actors.core.fix import Fix, newest_of
from actors.core.rejection import poison

RESTORE_S = 3.0
"""A race does not wait longer than this for a store: it goes live with what it has and asks again later."""


AGAIN_AT_ONCE = 8
"""Races that ask again. Thousands at once would keep each other from being answered in time, and so for ever."""


class NewestInHistory(Protocol):
    """What a restore needs of the PostgreSQL reader."""

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]: ...
    async def rejected(self, ids: Sequence[bytes]) -> set[bytes]: ...


class NewestInCache(Protocol):
    """What a restore needs of the Redis driver."""

    async def newest(self, race_id: str) -> list[Fix]: ...


class NewestInSpool(Protocol):
    """What a restore needs of the spool."""

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]: ...


@attrs.frozen
class Found:
    """What the stores know of a race."""

    fixes: tuple[Fix, ...]  # the newest of each participant
    complete: bool  # PostgreSQL and spool answered
    refused: tuple[Fix, ...]  # positions that Redis holds and PostgreSQL refused


@attrs.frozen
class Restorer:
    """Call it with a race id. Fixes with the ids in `without` are left out. Never raises for expected trouble.

    A fix goes from in flight to the spool and on to PostgreSQL: asked in this order, none slips through between two
    answers. Redis not answering makes nothing incomplete: it is a cache. Where it is ahead, PostgreSQL is asked whether
    it refused that fix: the daemon may have ended before it could say so in Redis.
    """

    history: NewestInHistory
    cache: NewestInCache
    max_clock_skew_ms: int
    spool: NewestInSpool | None = None
    in_flight: Callable[[str], Iterable[Fix]] = lambda _race_id: ()  # taken from the broker, not durable yet
    _turns: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(AGAIN_AT_ONCE))

    async def again(self, race_id: str, without: Collection[bytes] = ()) -> Found:
        """The same for a race that is live already: it waits for its turn."""
        async with self._turns:
            return await self(race_id, without)

    async def __call__(self, race_id: str, without: Collection[bytes] = ()) -> Found:
        skew_ms = self.max_clock_skew_ms
        found = [fix for fix in self.in_flight(race_id) if fix.timestamp_ms - fix.arrived_ms <= skew_ms]
        cached: list[Fix] = []
        refused: list[Fix] = []
        complete = False

        async def from_stores() -> None:
            nonlocal complete
            spool_answered = True
            try:
                if self.spool is not None:
                    found.extend(await self.spool.newest(race_id, skew_ms))
            except SpoolUnavailable:
                spool_answered = False
            try:
                found.extend(await self.history.newest(race_id, skew_ms))
            except (StoreUnavailable, StoreMisconfigured):
                return
            complete = spool_answered

        async def from_cache() -> None:
            try:
                cached.extend(await self.cache.newest(race_id))
            except CacheUnavailable:
                return

        with trio.move_on_after(RESTORE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(from_stores)
                nursery.start_soon(from_cache)
            if complete:
                complete = False
                with contextlib.suppress(StoreUnavailable, StoreMisconfigured):
                    refused = await self._refused(_ahead(cached, found, without))
                    complete = True
        known = {*without, *(fix.id for fix in refused)}
        return Found(tuple(newest_of(fix for fix in found + cached if fix.id not in known)), complete, tuple(refused))

    async def _refused(self, fixes: Sequence[Fix]) -> list[Fix]:
        if not fixes:
            return []
        rejected = await self.history.rejected([poison(fix, "").id for fix in fixes])
        return [fix for fix in fixes if poison(fix, "").id in rejected]


def _ahead(cached: Iterable[Fix], found: Iterable[Fix], without: Collection[bytes]) -> list[Fix]:
    """What only Redis knows."""
    newest = {fix.participant_id: fix for fix in newest_of(found)}
    return [
        fix
        for fix in cached
        if fix.id not in without and (fix.participant_id not in newest or fix.rank > newest[fix.participant_id].rank)
    ]
