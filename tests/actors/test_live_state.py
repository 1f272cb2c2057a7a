"""Live state: newest wins, one write for all races, Redis away or emptied is no loss."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from actors.health import Health
from actors.live_state import PING_S, WRITE_ROWS, LiveMailbox, LiveStateActor
from actors.messages import LivePosition
from actors.metrics import Metrics
from tests.actors.fakes import FakeCache
from tests.making import make_fix


@asynccontextmanager
async def running(
    cache: FakeCache, everything: list[LivePosition] | None = None
) -> AsyncIterator[tuple[LiveMailbox, Health]]:
    mailbox, health = LiveMailbox(), Health(Metrics())
    actor = LiveStateActor(mailbox, cache, health, 0.05, lambda: everything or [])
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
            mailbox.post([LivePosition(make_fix(at_s=3, race_id=fix.race_id))])
            mailbox.post([LivePosition(fix)])
            mailbox.post([LivePosition(make_fix(at_s=5, race_id=fix.race_id))])
        await trio.sleep(1)
        assert cache.writes == 1
        assert list(cache.live.values()) == newest
        assert health.components["redis"].up


async def test_force_goes_backward(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        mailbox.post([LivePosition(make_fix(at_s=9))])
        await trio.sleep(1)
        mailbox.post([LivePosition(make_fix(at_s=3), force=True)])
        await trio.sleep(1)
        assert cache.live[("R1", "P001")] == make_fix(at_s=3)


async def test_a_fix_after_a_correction_that_waits_replaces_what_redis_holds(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        mailbox.post([LivePosition(make_fix(at_s=9))])
        await trio.sleep(1)
        for down in (False, True):  # waiting in the mailbox, or put back after a write that failed
            cache.down = down
            mailbox.post([LivePosition(make_fix(at_s=3), force=True)])
            await trio.sleep(down)
            mailbox.post([LivePosition(make_fix(at_s=5))])
            await trio.sleep(down)
            cache.down = False
            await trio.sleep(1)
            assert cache.live[("R1", "P001")] == make_fix(at_s=5)
            mailbox.post([LivePosition(make_fix(at_s=9))])
            await trio.sleep(1)


async def test_who_is_gone_is_removed_and_may_come_back(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        mailbox.post([LivePosition(make_fix(at_s=9))])
        await trio.sleep(1)
        gone = LivePosition(make_fix(at_s=9), force=True, gone=True)
        mailbox.post([gone])
        await trio.sleep(1)
        assert cache.live == {}
        mailbox.post([gone])
        mailbox.post([LivePosition(make_fix(at_s=3))])
        await trio.sleep(1)
        assert cache.live[("R1", "P001")] == make_fix(at_s=3)


async def test_redis_away_and_back(autojump_clock: MockClock) -> None:
    cache = FakeCache(down=True)
    async with running(cache) as (mailbox, health):
        mailbox.post([LivePosition(make_fix(at_s=1))])
        await trio.sleep(10)
        mailbox.post([LivePosition(make_fix(at_s=2))])
        assert not health.components["redis"].up
        cache.down = False
        await trio.sleep(2)
        assert cache.live == {("R1", "P001"): make_fix(at_s=2)}
        assert health.components["redis"].up


async def test_emptied_redis_is_filled_again_even_when_nothing_happens(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    everything = [LivePosition(make_fix(at_s=1)), LivePosition(make_fix("P2", at_s=1))]
    async with running(cache, everything) as (mailbox, _):
        mailbox.post(everything)
        await trio.sleep(1)
        cache.emptied()
        await trio.sleep(2 * PING_S)
        assert len(cache.live) == 2


async def test_what_a_failed_write_held_does_not_replace_newer(autojump_clock: MockClock) -> None:
    mailbox = LiveMailbox()
    mailbox.post([LivePosition(make_fix(at_s=1))])
    taken = mailbox.take(9)
    mailbox.post([LivePosition(make_fix(at_s=2))])
    mailbox.put_back(taken)
    assert [p.fix for p in mailbox.take(9)] == [make_fix(at_s=2)]


async def test_large_backlogs_are_written_in_pieces(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        await trio.sleep(1)
        mailbox.post([LivePosition(make_fix(f"P{i}")) for i in range(WRITE_ROWS + 1)])
        await trio.sleep(1)
        assert cache.writes == 2
        assert len(cache.live) == WRITE_ROWS + 1


async def test_stopping_writes_what_waits(autojump_clock: MockClock) -> None:
    cache = FakeCache()
    async with running(cache) as (mailbox, _):
        await trio.sleep(1)
        mailbox.post([LivePosition(make_fix())])
    assert len(cache.live) == 1
