"""What a race knows when it starts: the greatest of each participant, in flight, in spool, PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias

import attrs
import trio

from actors.core.fix import Fix
from actors.core.rejection import poison
from actors.races.gatherer import Gatherer
from actors.races.turns import in_turns

RESTORE_S = 3.0
"""A race does not wait longer than this for a store: it goes live with what it has and asks again later."""

PATIENCE_S = 2.5
"""With a question about many races: what is left of RESTORE_S does to ask for each alone."""

RACES = 100
"""In one question: some 5 ms of PostgreSQL. Each of them is woken by the answer, some 10 ms in one go."""

AGAIN_AT_ONCE = RACES
"""Races that ask again. Thousands at once would all give up in vain, and again after a moment."""

IDS = 100
"""Of rejections that a race asks for in one go: with RACES in a question, 10,000 at most."""

Newest: TypeAlias = Mapping[str, list[Fix] | None]
"""By race. None: too much to be asked for beside others. Races that are left out were not looked for in time."""


class NewestInHistory(Protocol):
    """What a restore needs of the PostgreSQL reader."""

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]: ...
    async def newest_of_races(self, race_ids: Sequence[str], max_clock_skew_ms: int) -> Newest: ...
    async def rejected(self, ids: Sequence[bytes]) -> set[bytes]: ...


class NewestInCache(Protocol):
    """What a restore needs of the Redis driver."""

    async def newest(self, race_id: str) -> list[Fix]: ...
    async def newest_of_races(self, race_ids: Sequence[str]) -> Newest: ...


class NewestInSpool(Protocol):
    """What a restore needs of the spool."""

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]: ...
    async def newest_of_races(self, race_ids: Sequence[str], max_clock_skew_ms: int) -> Newest: ...


@attrs.frozen
class Found:
    """What the stores know of a race."""

    fixes: tuple[Fix, ...]  # the newest of each participant
    complete: bool  # PostgreSQL and spool answered
    refused: tuple[Fix, ...]  # positions that Redis holds or the race shows, and PostgreSQL refused


class Restorer:
    """Call it with a race id. Fixes with the ids in `without` are left out. Never raises for expected trouble.

    A fix goes from in flight to the spool and on to PostgreSQL: asked in this order, none slips through between two
    answers. Redis not answering makes nothing incomplete: it is a cache. Where it is ahead, PostgreSQL is asked whether
    it refused that fix: the daemon may have ended before it could say so in Redis.
    """

    def __init__(
        self,
        history: NewestInHistory,
        cache: NewestInCache,
        max_clock_skew_ms: int,
        spool: NewestInSpool | None = None,
        in_flight: Callable[[str], Iterable[Fix]] = lambda _race_id: (),
    ) -> None:
        """`in_flight`: fixes of a race that were taken from the broker and are not durable yet."""
        self._skew_ms = max_clock_skew_ms
        self._history = history
        self._in_flight = in_flight
        self._turns = trio.Semaphore(AGAIN_AT_ONCE)
        limits = RACES, PATIENCE_S, RESTORE_S
        self._cached = Gatherer(cache.newest, cache.newest_of_races, *limits)
        self._sources = [
            Gatherer(
                partial(store.newest, max_clock_skew_ms=max_clock_skew_ms),
                partial(store.newest_of_races, max_clock_skew_ms=max_clock_skew_ms),
                *limits,
            )
            for store in (spool, history)
            if store is not None
        ]
        self._rejected = Gatherer(history.rejected, self._rejected_of_many, *limits)

    async def again(self, race_id: str, without: Collection[bytes] = (), shown: Sequence[Fix] = ()) -> Found:
        """The same for a race that is live already: it waits for its turn. `shown`: the newest of each participant by
        other nodes, one of whom may have taken something back while it was not heard."""
        async with self._turns:
            return await self(race_id, without, shown)

    async def __call__(self, race_id: str, without: Collection[bytes] = (), shown: Sequence[Fix] = ()) -> Found:
        in_flight, found = list(self._in_flight(race_id)), list[Fix]()  # at once: they go on to the stores meanwhile
        refused: list[Fix] | None = []
        complete = False
        deadline = trio.current_time() + RESTORE_S
        with self._cached.asked(race_id) as cached, trio.move_on_at(deadline):
            complete = await self._ask_stores(race_id, found)
            await cached.wait()
        newest: dict[str, Fix] = {}
        await in_turns(in_flight, lambda fixes: _take_over(newest, filter(self._may_be_live, fixes), without))
        await in_turns(found, lambda fixes: _take_over(newest, fixes, without))
        ahead: list[Fix] = []
        for held in (cached.answer or (), shown):
            await in_turns(
                held,
                lambda some: ahead.extend(fix for fix in some if _is_ahead(fix, newest) and fix.id not in without),
            )
        if complete and ahead:
            refused = None
            with trio.move_on_at(deadline):
                refused = await self._refused(ahead)
        ids = {fix.id for fix in refused or ()}
        await in_turns(ahead, lambda fixes: _take_over(newest, fixes, ids))
        return Found(tuple(newest.values()), complete and refused is not None, tuple(refused or ()))

    def _may_be_live(self, fix: Fix) -> bool:
        return fix.timestamp_ms - fix.arrived_ms <= self._skew_ms

    async def _ask_stores(self, race_id: str, found: list[Fix]) -> bool:
        """Spool and PostgreSQL, one after the other, into `found`. Whether both answered."""
        all_answered = True
        for source in self._sources:
            with source.asked(race_id) as ticket:
                answer = await ticket.wait()
            all_answered &= answer is not None
            found += answer or ()
        return all_answered

    async def _refused(self, fixes: Sequence[Fix]) -> list[Fix] | None:
        """Those that PostgreSQL refused; None when it cannot be asked."""
        refused: list[Fix] = []
        for start in range(0, len(fixes), IDS):
            by_id = {poison(fix, "").id: fix for fix in fixes[start : start + IDS]}
            with self._rejected.asked(tuple(by_id)) as ticket:
                rejected = await ticket.wait()
            if rejected is None:
                return None
            refused += [fix for rejection_id, fix in by_id.items() if rejection_id in rejected]
        return refused

    async def _rejected_of_many(self, races: Sequence[tuple[bytes, ...]]) -> dict[tuple[bytes, ...], set[bytes] | None]:
        rejected = await self._history.rejected([each for ids in races for each in ids])
        return dict.fromkeys(races, rejected)


def _take_over(newest: dict[str, Fix], fixes: Iterable[Fix], without: Collection[bytes]) -> None:
    """Those that are the greatest of their participant now."""
    for fix in fixes:
        if _is_ahead(fix, newest) and fix.id not in without:
            newest[fix.participant_id] = fix


def _is_ahead(fix: Fix, newest: Mapping[str, Fix]) -> bool:
    """Most are the same in two stores."""
    held = newest.get(fix.participant_id)
    return held is None or (held.id != fix.id and held.rank < fix.rank)
