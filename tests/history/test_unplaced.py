"""Fixes for which PostgreSQL has no partition: they wait in the spool, or unacknowledged; others go on."""

from __future__ import annotations

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from actors.core.errors import SpoolFull, StoreUnavailable
from actors.history.drain import DRAIN_ROWS
from tests.history.persisting import World, rejection, running, world
from tests.kit.making import make_fix

NOBODY: frozenset[str] = frozenset()
OLD = frozenset(("old",))
UNDER_WAY = "set-up: tracking_positions has no partition for 2025-07: 1 fixes wait"


def postgres(w: World) -> tuple[bool, str]:
    part = w.health.components["postgres"]
    return part.up, part.detail


def counts(w: World) -> tuple[float, float, float]:
    """(committed, spooled, without a partition)"""
    return w.count("fixes_committed_total"), w.count("fixes_spooled"), w.count("fixes_without_partition")


async def test_it_waits_in_the_spool_until_there_is_one(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.missing = OLD
        with capture_logs() as logs:
            w.put(0, make_fix("new"), make_fix("old"), make_fix("old"), rejections=(rejection(),))
            await trio.sleep(10)
            w.put(1, make_fix("new", at_s=1))
            await trio.sleep(10)
        assert w.settled == [(1, 0), (1, 1)]
        assert w.settled_but == [((1, 0), 2)]
        assert counts(w) == (2, 1, 1)
        assert w.count("fixes_duplicate_total") == 1
        assert postgres(w) == (True, f"{UNDER_WAY} in the spool")
        assert w.health.components["spool"].detail == "not in use"
        assert [entry["event"] for entry in logs] == ["no partition: fixes wait in the spool"]
        assert (logs[0]["timestamp"], logs[0]["months"]) == ("2025-07-01T08:15:30.000Z", "2025-07")
        calls = w.store.calls
        await trio.sleep(600)
        assert w.store.calls == calls, "it is not tried again in vain"
        w.store.missing = NOBODY
        await trio.sleep(6)
        assert counts(w) == (3, 0, 0)
        assert w.spool.rows == 0
        assert w.store.rejected.keys() == {rejection().id}
        assert postgres(w) == (True, "ok")


async def test_all_of_them(autojump_clock: MockClock) -> None:
    """As when nobody made the partition of the present month."""
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.missing = OLD
        for number in range(DRAIN_ROWS + 100):
            w.put(number, make_fix("old", at_s=number))
        await trio.sleep(30)
        assert len(w.settled) == w.count("fixes_without_partition") == DRAIN_ROWS + 100
        assert w.store.rows == {}
        w.store.missing = NOBODY
        await trio.sleep(30)
        assert len(w.store.rows) == DRAIN_ROWS + 100
        assert counts(w)[1:] == (0, 0)


async def test_they_keep_no_other_row_in_the_spool(autojump_clock: MockClock) -> None:
    """PostgreSQL was away: that they have no partition is found when the spool is drained."""
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.trouble = StoreUnavailable("gone")
        w.put(0, *(make_fix("old", at_s=number) for number in range(DRAIN_ROWS + 100)))
        w.put(1, make_fix("new"), rejections=(rejection(),))
        await trio.sleep(10)
        w.store.trouble, w.store.missing = None, OLD
        await trio.sleep(10)
        assert [fix.participant_id for fix in w.store.rows.values()] == ["new"]
        assert len(w.store.rejected) == 1
        assert counts(w) == (1, DRAIN_ROWS + 100, DRAIN_ROWS + 100)
        w.store.missing = frozenset(("old", "older"))
        await trio.sleep(10)
        assert counts(w) == (1, DRAIN_ROWS + 100, DRAIN_ROWS + 100), "another set of partitions, still none for them"
        w.store.missing = NOBODY
        await trio.sleep(60)
        assert counts(w) == (DRAIN_ROWS + 101, 0, 0)


async def test_without_a_spool_its_parcel_alone_is_not_settled(autojump_clock: MockClock) -> None:
    async with world(max_rows=3) as w, running(w):
        await trio.sleep(1)
        w.store.missing = OLD
        with capture_logs() as logs:
            w.put(0, make_fix("new"), make_fix("old"), rejections=(rejection(),))
            await trio.sleep(1)
            for number in range(1, 40):
                w.put(number, make_fix("new", at_s=number))
                await trio.sleep(1)
                assert postgres(w) == (False, f"{UNDER_WAY} unacknowledged, and what came after them")
        assert w.settled == [(1, number) for number in range(1, 40)]
        assert set(w.settled_but) == {((1, 0), 1)}
        assert counts(w) == (40, 0, 1)
        assert len(w.store.rejected) == 1
        assert [entry["event"] for entry in logs] == ["no partition: fixes wait unacknowledged", "component down"]
        w.store.missing = NOBODY
        await trio.sleep(6)
        assert w.settled[-1] == (1, 0)
        assert counts(w) == (41, 0, 0)
        assert postgres(w) == (True, "ok")


async def test_many_that_are_held_are_tried_in_turn(autojump_clock: MockClock) -> None:
    """While more come all the time, and each batch takes only a few of them."""
    async with world(max_rows=2) as w, running(w):
        await trio.sleep(1)
        w.store.missing = frozenset(("old", "older"))
        for number in range(20):
            w.put(number, make_fix("old" if number % 10 else "older", at_s=number))
            await trio.sleep(1)
        assert (w.settled, counts(w)) == ([], (0, 0, 20))
        w.store.missing = frozenset(("older",))
        for number in range(20, 80):
            w.put(number, make_fix("older", at_s=number))
            await trio.sleep(1)
        assert (len(w.settled), counts(w)) == (18, (18, 0, 62))
        w.store.missing = NOBODY
        await trio.sleep(10)
        assert (len(w.settled), counts(w)) == (80, (80, 0, 0))


async def test_a_full_spool_is_as_none_until_there_is_room(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.missing, w.spool.trouble = OLD, SpoolFull("full")
        w.put(0, make_fix("new"), make_fix("old"))
        await trio.sleep(30)
        assert (w.settled, counts(w)) == ([], (1, 0, 1))
        assert not postgres(w)[0]
        w.spool.trouble = None
        await trio.sleep(10)
        assert (w.settled, counts(w)) == ([(1, 0)], (1, 1, 1))
        assert postgres(w) == (True, f"{UNDER_WAY} in the spool")


async def test_what_is_held_goes_to_the_spool_when_postgresql_is_away(autojump_clock: MockClock) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.missing, w.spool.trouble = OLD, SpoolFull("full")
        w.put(0, make_fix("old"))
        await trio.sleep(8)
        w.store.trouble, w.spool.trouble = StoreUnavailable("gone"), None
        await trio.sleep(20)
        assert (w.settled, counts(w)) == ([(1, 0)], (0, 1, 0))
        w.store.trouble = None
        await trio.sleep(10)
        assert counts(w) == (0, 1, 1)


async def test_a_crash_while_it_goes_to_the_spool(autojump_clock: MockClock) -> None:
    """The rest of its batch was settled already."""
    async with world(with_spool=True) as w:
        async with running(w):
            await trio.sleep(1)
            w.store.missing, w.spool.delay_s = OLD, 1000
            w.put(0, make_fix("new"), make_fix("old"))
            await trio.sleep(5)
            assert (w.settled, w.settled_but) == ([], [((1, 0), 1)])
        w.spool.delay_s = 0
        async with running(w):
            await trio.sleep(10)
        assert w.settled == [(1, 0)]
        assert counts(w) == (1, 1, 1)
