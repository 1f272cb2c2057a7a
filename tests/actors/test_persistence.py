"""Persistence: batches, settles only after the commit, outlasts every trouble of PostgreSQL, survives its own crash."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from trio.testing import MockClock

from actors.committing import REFUSALS_A_MINUTE, Committer
from actors.core.batch import Batcher
from actors.core.fix import Fix, Rejection
from actors.errors import SpoolFull, SpoolUnavailable, StoreMisconfigured, StoreUnavailable
from actors.health import Health
from actors.messages import Parcel, ParcelId, PersistenceMessage, Settled
from actors.metrics import Metrics
from actors.persistence import Desk, Persistence
from actors.spooling import Spooling
from tests.actors.fakes import FakeSpool, FakeStore
from tests.making import make_fix


@attrs.define(eq=False)
class World:
    """Persistence with a fake PostgreSQL."""

    persistence: Persistence
    spool: FakeSpool
    send: trio.MemorySendChannel[PersistenceMessage]
    store: FakeStore
    settled: list[ParcelId]
    metrics: Metrics
    health: Health

    def put(self, part: int, *fixes: Fix, rejections: tuple[Rejection, ...] = ()) -> None:
        self.send.send_nowait(Parcel((1, part), "R1" if fixes else "", fixes, rejections))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"tracking_{name}", labels) or 0.0


@asynccontextmanager
async def world(max_rows: int = 100, max_wait_s: float = 0.1, with_spool: bool = False) -> AsyncIterator[World]:
    metrics = Metrics()
    health = Health(metrics)
    store = FakeStore()
    send, receive = trio.open_memory_channel[PersistenceMessage](math.inf)
    settled: list[ParcelId] = []
    spool = FakeSpool()

    def settle(message: Settled) -> None:
        settled.extend(message.parcels)
        metrics.count(message.tally)

    committer = Committer(store, metrics)
    spooling = Spooling(spool if with_spool else None, committer, metrics, health, 3)
    persistence = Persistence(Desk(Batcher(max_rows, max_wait_s)), receive, settle, committer, spooling, health)
    yield World(persistence, spool, send, store, settled, metrics, health)


@asynccontextmanager
async def running(w: World) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(w.persistence.run)
        yield
        nursery.cancel_scope.cancel()


def rejection(code: str = "bad_json") -> Rejection:
    return Rejection(code.encode().ljust(16, b"0")[:16], 0, "t", b"{", code, "x")


async def test_many_parcels_one_batch_settled_after_the_commit(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        w.store.delay_s = 0.5
        fixes = [make_fix(at_s=i) for i in range(10)]
        for i, fix in enumerate(fixes):
            w.put(i, fix)
        w.put(10, fixes[0], rejections=(rejection(),))
        await trio.sleep(0.6)
        assert w.settled == []
        await trio.sleep(2)
        assert w.store.calls == 1
        assert w.settled == [(1, i) for i in range(11)]
        assert set(w.store.rows) == {fix.id for fix in fixes}
        assert (w.count("fixes_committed_total"), w.count("fixes_duplicate_total")) == (10, 1)
        assert w.count("fixes_rejected_total", code="bad_json") == 1


async def test_size_closes_a_batch(autojump_clock: MockClock) -> None:
    async with world(max_rows=4) as w, running(w):
        for i in range(8):
            w.put(i, make_fix(at_s=i))
        await trio.sleep(1)
        assert w.store.calls == 2


async def test_nothing_is_settled_while_postgresql_is_away(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        await trio.sleep(1)
        assert w.health.components["postgres"].up
        w.store.trouble = StoreUnavailable("connection refused")
        w.put(0, make_fix(), rejections=(rejection(),))
        await trio.sleep(60)
        assert w.settled == []
        assert not w.health.components["postgres"].up
        assert "connection refused" in w.health.components["postgres"].detail
        w.store.trouble = None
        await trio.sleep(3)
        assert w.settled == [(1, 0)]
        assert w.health.components["postgres"].up


async def test_away_at_start_is_no_failed_boot(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.store.trouble = StoreUnavailable("not yet")
        async with running(w):
            w.put(0, make_fix())
            await trio.sleep(10)
            w.store.trouble = None
            await trio.sleep(3)
            assert w.settled == [(1, 0)]


async def test_lost_commit_reply_is_repeated_and_counted_as_duplicate(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        w.store.late_trouble = StoreUnavailable("connection lost during COMMIT")
        w.put(0, make_fix())
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        assert (w.count("fixes_committed_total"), w.count("fixes_duplicate_total")) == (0, 1)


async def test_an_idle_postgresql_that_dies_is_noticed(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        await trio.sleep(1)
        w.store.trouble = StoreUnavailable("gone")
        await trio.sleep(10)
        assert not w.health.components["postgres"].up


async def test_a_few_refused_rows_become_poison_and_the_rest_is_committed(autojump_clock: MockClock) -> None:
    async with world(max_rows=1000) as w, running(w):
        fixes = [make_fix(at_s=i) for i in range(1000)]
        bad = fixes[333]
        w.store.refuse = lambda fix: fix.id == bad.id
        w.put(0, *fixes)
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        assert len(w.store.rows) == 999
        assert [r.code for r in w.store.rejected.values()] == ["poison"]
        assert w.count("fixes_committed_total") + w.count("fixes_rejected_total", code="poison") == 1000


async def test_when_all_rows_are_refused_the_set_up_is_wrong(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        w.store.refuse = lambda _fix: True
        w.put(0, make_fix(at_s=0), make_fix(at_s=1))
        await trio.sleep(60)
        assert w.settled == []
        assert w.store.rejected == {}
        assert "set-up" in w.health.components["postgres"].detail
        w.store.refuse = lambda _fix: False
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        assert len(w.store.rows) == 2


async def test_many_refusals_a_minute_are_a_set_up_fault_too(autojump_clock: MockClock) -> None:
    async with world(max_rows=1000) as w, running(w):
        fixes = [make_fix(at_s=i) for i in range(100)]
        bad = {fix.id for fix in fixes[: REFUSALS_A_MINUTE + 1]}
        w.store.refuse = lambda fix: fix.id in bad
        w.put(0, *fixes)
        await trio.sleep(30)
        assert w.settled == []
        assert w.store.rejected == {}


async def test_misconfigured_waits_and_recovers(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        w.store.trouble = StoreMisconfigured("permission denied for table tracking_positions")
        w.put(0, make_fix())
        await trio.sleep(30)
        assert w.settled == []
        w.store.trouble = None
        await trio.sleep(5)
        assert w.settled == [(1, 0)]


async def test_a_crash_between_commit_and_settle_repeats_the_batch(autojump_clock: MockClock) -> None:
    async with world() as w:
        async with running(w):
            w.store.delay_s = 15
            w.put(0, make_fix(at_s=0))
            await trio.sleep(10)  # pinged, collected, being written
        assert w.settled == []
        assert len(w.persistence.desk.writing) == 1
        w.store.delay_s = 0
        async with running(w):
            w.put(1, make_fix(at_s=1))
            await trio.sleep(1)
        assert sorted(w.settled) == [(1, 0), (1, 1)]
        assert len(w.store.rows) == 2


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
        assert (w.count("fixes_spooled"), w.count("fixes_committed_total")) == (0, 3)
        assert w.count("fixes_rejected_total", code="bad_json") == 1
        assert w.health.components["spool"].detail == "not in use"


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
