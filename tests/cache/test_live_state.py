"""Live state: newest wins, one write for all races, Redis away or emptied is no loss."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from actors.cache.live_state import PING_S, WRITE_ROWS, LiveMailbox, LiveState
from actors.core.fix import Fix
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.kit.fakes import FakeCache
from tests.kit.making import make_fix


@asynccontextmanager
async def running(
    cache: FakeCache,
    everything: Callable[[], Iterable[list[Fix]]] = list,
    caught_up: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[LiveMailbox, Health]]:
    mailbox, health = LiveMailbox(), Health(Metrics())
    actor = LiveState(mailbox, cache, health, 0.05, everything, caught_up)
    async with trio.open_nursery() as nursery:
        await nursery.start(actor.run)
        yield mailbox, health
        nursery.cancel_scope.cancel()


async def test_one_write_a_flush_for_all_races(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, health):
        await trio.sleep(1)
        newest = [make_fix(at_s=9, race_id=f"R{i}") for i in range(5)]
        for fix in newest:
            mailbox.post([make_fix(at_s=3, race_id=fix.race_id)])
            mailbox.post([fix])
            mailbox.post([make_fix(at_s=5, race_id=fix.race_id)])
        await trio.sleep(1)
        assert cache.writes == 1
        assert list(cache.live.values()) == newest
        assert health.components["redis"].up


async def test_what_comes_after_a_pause_is_written_at_once_and_then_no_more_for_a_flush(
    autojump_clock: MockClock,
) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        await trio.sleep(1)
        for at_s in range(1, 4):
            mailbox.post([make_fix(at_s=at_s)])
            await trio.sleep(0.02)
        assert list(cache.live.values()) == [make_fix(at_s=1)]
        await trio.sleep(0.05)
        assert list(cache.live.values()) == [make_fix(at_s=3)]
        assert cache.writes == 2


async def test_a_race_that_is_forgotten_goes_back(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        mailbox.post([make_fix(at_s=9), make_fix("P2"), make_fix(race_id="R2")])
        await trio.sleep(1)
        mailbox.post([make_fix(at_s=10), make_fix(at_s=1, race_id="R2")])
        mailbox.forget("R1")  # what waits is forgotten too
        mailbox.post([make_fix(at_s=3)])
        await trio.sleep(1)
        assert list(cache.live.values()) == [make_fix(at_s=1, race_id="R2"), make_fix(at_s=3)]
        mailbox.forget("R1")
        await trio.sleep(1)
        assert list(cache.live.values()) == [make_fix(at_s=1, race_id="R2")]


async def test_it_is_forgotten_also_where_redis_does_not_answer_at_first(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        mailbox.post([make_fix(at_s=9), make_fix("P2")])
        await trio.sleep(1)
        cache.down = True
        mailbox.forget("R1")
        mailbox.post([make_fix(at_s=3)])
        await trio.sleep(5)
        mailbox.post([make_fix(at_s=4)])
        cache.down = False
        await trio.sleep(3)
        assert list(cache.live.values()) == [make_fix(at_s=4)]


async def test_what_a_failed_write_held_of_a_race_that_was_forgotten_meanwhile_is_dropped() -> None:
    mailbox = LiveMailbox()
    mailbox.post([make_fix(at_s=9), make_fix(race_id="R2")])
    mailbox.forget("R3")
    taken = mailbox.take(9)
    assert taken == ([make_fix(at_s=9), make_fix(race_id="R2")], {"R3"})
    assert mailbox.empty
    mailbox.forget("R1")
    mailbox.post([make_fix(at_s=3)])
    mailbox.put_back(*taken)
    assert mailbox.take(9) == ([make_fix(at_s=3), make_fix(race_id="R2")], {"R1", "R3"})


async def test_redis_away_and_back(autojump_clock: MockClock) -> None:
    cache = FakeCache(down=True)
    async with running(cache) as (mailbox, health):
        mailbox.post([make_fix(at_s=1), make_fix("P2")])
        await trio.sleep(10)
        mailbox.post([make_fix(at_s=2)])
        assert not health.components["redis"].up
        cache.down = False
        await trio.sleep(2)
        assert cache.live == {("R1", "P001"): make_fix(at_s=2), ("R1", "P2"): make_fix("P2")}
        assert health.components["redis"].up


async def test_emptied_redis_is_filled_again_even_when_nothing_happens(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    everything = [make_fix(at_s=1), make_fix("P2", at_s=1)]
    async with running(cache, lambda: [everything]) as (mailbox, _):
        mailbox.post(everything)
        await trio.sleep(1)
        cache.emptied()
        await trio.sleep(2 * PING_S)
        assert len(cache.live) == 2


async def test_it_says_so_when_redis_holds_again_what_it_could_not_be_told(autojump_clock: MockClock) -> None:
    cache, told = FakeCache(), list[int]()
    async with running(cache, lambda: [[make_fix("P2")]], lambda: told.append(len(cache.live))) as (mailbox, _):
        mailbox.post([make_fix("P1")])
        await trio.sleep(10)
        assert told == []
        cache.down = True
        mailbox.post([make_fix("P1", 1), make_fix("P3")])
        await trio.sleep(10)
        cache.down = False
        await trio.sleep(10)
        assert told == [2]
        cache.emptied()
        await trio.sleep(10)
        assert told == [2, 1]


async def test_emptied_redis_is_filled_again_some_in_a_turn(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    token = trio.lowlevel.current_trio_token()
    turns_of_others: list[int] = []

    def everything() -> Iterator[list[Fix]]:
        for n in range(20):
            assert n - len(turns_of_others) <= 3, "they come soon, not at once"
            token.run_sync_soon(turns_of_others.append, n)
            yield [make_fix(f"P{n}")]

    async with running(cache, everything) as (mailbox, _):
        mailbox.post([make_fix()])
        await trio.sleep(1)
        cache.emptied()
        await trio.sleep(2 * PING_S)
        assert len(cache.live) == 20


async def test_what_a_failed_write_held_does_not_replace_newer(autojump_clock: MockClock) -> None:
    mailbox = LiveMailbox()
    mailbox.post([make_fix(at_s=1)])
    taken = mailbox.take(9)
    mailbox.post([make_fix(at_s=2)])
    mailbox.put_back(*taken)
    assert mailbox.take(9) == ([make_fix(at_s=2)], set())


async def test_large_backlogs_are_written_in_pieces(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        await trio.sleep(1)
        mailbox.post([make_fix(f"P{i}") for i in range(WRITE_ROWS + 1)])
        await trio.sleep(1)
        assert cache.writes == 2
        assert len(cache.live) == WRITE_ROWS + 1


async def test_stopping_writes_what_waits(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        await trio.sleep(1)
        mailbox.post([make_fix()])
    assert len(cache.live) == 1
