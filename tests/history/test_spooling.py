"""What persistence does while PostgreSQL is away: the spool, and the way back."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from actors.core.errors import SpoolFull, SpoolUnavailable, StoreMisconfigured, StoreUnavailable
from tests.history.persisting import rejection, running, world
from tests.kit.making import make_fix


async def test_away_for_long_rows_go_to_the_spool_and_later_to_postgresql(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.trouble = StoreUnavailable("gone")
        w.put(0, make_fix(at_s=0), rejections=(rejection(),))
        await trio.sleep(2)
        assert w.settled == [], "spool_after_s is 3"
        await trio.sleep(3)
        assert w.settled == [(1, 0)]
        w.put(1, make_fix(at_s=0), make_fix(at_s=1))
        await trio.sleep(0.1)
        assert w.settled == [(1, 0), (1, 1)], "while it is known to be away nothing waits"
        assert (w.count("fixes_spooled"), w.count("fixes_duplicate_total")) == (3, 1)
        assert not w.health.components["postgres"].up
        assert w.health.components["spool"].detail == "in use: 3 rows"
        w.store.trouble = None
        w.put(2, make_fix(at_s=2))
        await trio.sleep(5)
        assert w.spool.rows == 0
        assert len(w.store.rows) == 3
        assert w.emptied == [3]
        assert (w.count("fixes_spooled"), w.count("fixes_committed_total")) == (0, 3)
        assert w.count("fixes_rejected_total", code="bad_json") == 1
        assert w.health.components["spool"].detail == "not in use"


async def test_it_is_asked_soon_after_a_write_found_it_gone(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(0.5)  # the first question was answered, the next one is far
        w.store.delay_s = 1e9
        w.put(0, make_fix())
        await trio.sleep(3.2)
        assert w.spool.rows == 1
        w.store.delay_s = 0
        await trio.sleep(1.1)
        assert w.spool.rows == 0


async def test_a_postgresql_too_slow_for_large_batches_gets_small_ones(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.trouble = StoreUnavailable("gone")
        w.put(0, *(make_fix(at_s=i) for i in range(3000)))
        await trio.sleep(4)
        assert w.spool.rows == 3000
        w.store.trouble, w.store.most_rows = None, 20
        await trio.sleep(600)
        assert w.spool.rows == 0
        assert len(w.store.rows) == 3000


async def test_a_full_spool_stops_settling_and_recovers(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        w.store.trouble = StoreUnavailable("gone")
        w.spool.trouble = SpoolFull("the spool holds 1024 MiB")
        w.put(0, make_fix())
        await trio.sleep(60)
        assert w.settled == []
        assert not w.health.components["spool"].up
        w.store.trouble = w.spool.trouble = None
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        assert len(w.store.rows) == 1


async def test_room_for_the_spool_is_found_while_postgresql_is_away(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        w.store.trouble = StoreUnavailable("gone")
        w.spool.trouble = SpoolFull("no space left on the disk")
        w.put(0, make_fix())
        await trio.sleep(60)
        assert w.settled == []
        w.spool.trouble = None
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        assert w.health.components["spool"].detail == "in use: 1 rows"


async def test_a_postgresql_that_hangs_is_waited_for_no_longer_than_one_that_is_gone(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.delay_s = 1e9
        w.put(0, make_fix(at_s=0))
        await trio.sleep(2.9)
        assert w.settled == []
        await trio.sleep(0.5)
        assert w.settled == [(1, 0)], "spool_after_s is 3"
        assert "did not take a batch within 3 s" in w.health.components["postgres"].detail


async def test_without_room_in_the_spool_a_slow_postgresql_is_waited_for(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.spool.trouble = SpoolFull("full")
        w.store.delay_s = 8
        w.put(0, make_fix(at_s=0))
        await trio.sleep(30)
        assert w.settled == [(1, 0)]


async def test_a_spool_that_cannot_be_read_keeps_no_new_rows_back(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.trouble = StoreUnavailable("gone")
        w.put(0, make_fix(at_s=0))
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        w.store.trouble, w.spool.broken = None, SpoolUnavailable("disk I/O error")
        await trio.sleep(5)
        w.put(1, make_fix(at_s=1))
        await trio.sleep(1)
        assert len(w.store.rows) == 1
        assert not w.health.components["spool"].up
        w.spool.broken = None
        await trio.sleep(6)
        assert len(w.store.rows) == 2


async def test_a_spooled_row_that_is_refused_alone_is_poison_when_new_rows_are_accepted(
    autojump_clock: MockClock,
) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.trouble = StoreUnavailable("gone")
        bad = make_fix(at_s=0)
        w.put(0, bad)
        await trio.sleep(5)
        w.store.trouble, w.store.refuse = None, lambda fix: fix.id == bad.id
        await trio.sleep(30)
        assert w.store.rejected == {}
        assert not w.health.components["postgres"].up
        w.put(1, make_fix(at_s=1))
        await trio.sleep(10)
        assert w.spool.rows == 0
        assert [r.code for r in w.store.rejected.values()] == ["poison"]
        assert w.health.components["postgres"].up


async def test_back_but_set_up_wrongly_is_no_reason_to_go_on_spooling(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.trouble = StoreUnavailable("gone")
        w.put(0, make_fix(at_s=0))
        await trio.sleep(5)
        w.store.trouble = StoreMisconfigured("column latitude is missing")
        await trio.sleep(5)
        w.put(1, make_fix(at_s=1))
        await trio.sleep(30)
        assert w.settled == [(1, 0)]
        assert w.health.components["spool"].detail == "not in use"
        assert "set-up" in w.health.components["postgres"].detail
        w.store.trouble = None
        await trio.sleep(5)
        assert w.settled == [(1, 0), (1, 1)]
        assert len(w.store.rows) == 2


async def test_what_an_earlier_run_spooled_is_recovered(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w:
        w.spool.waiting = {1: make_fix(at_s=0), 2: make_fix(at_s=1)}
        async with running(w):
            await trio.sleep(1)
        assert w.count("fixes_recovered_total") == 2
        assert w.count("fixes_committed_total") == 2
        assert w.count("fixes_spooled") == 0


async def test_a_wrong_set_up_is_never_spooled(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        w.store.trouble = StoreMisconfigured("column latitude is missing")
        w.put(0, make_fix())
        await trio.sleep(60)
        assert (w.settled, w.spool.puts) == ([], 0)
        w.store.trouble = None
        await trio.sleep(5)
        assert w.settled == [(1, 0)]


async def test_a_spool_that_cannot_be_opened_is_tried_again(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w:
        w.spool.broken = SpoolUnavailable("read-only file system")
        async with running(w):
            await trio.sleep(1)
            assert w.health.components["spool"].detail == "read-only file system"
            w.put(0, make_fix(at_s=0))
            await trio.sleep(1)
            assert w.settled == [(1, 0)], "PostgreSQL is there"
            w.store.trouble = StoreUnavailable("gone")
            w.put(1, make_fix(at_s=1))
            await trio.sleep(20)
            assert w.settled == [(1, 0)]
            w.spool.broken = None
            await trio.sleep(5)
            assert w.settled == [(1, 0), (1, 1)]


async def test_a_crash_between_the_commit_and_the_removal_commits_nothing_twice(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w:
        w.spool.waiting = {1: make_fix(at_s=0), 2: make_fix(at_s=1)}
        w.spool.remove_s = 1000
        async with running(w):
            await trio.sleep(5)
        assert (w.store.calls, w.spool.rows, w.count("fixes_spooled")) == (1, 2, 2)
        w.spool.remove_s = 0
        async with running(w):
            await trio.sleep(5)
        assert (w.store.calls, w.spool.rows, w.count("fixes_spooled")) == (1, 0, 0)
        assert w.count("fixes_committed_total") == 2
        assert w.count("fixes_duplicate_total") == 0
