"""Persistence with a fake PostgreSQL and a fake spool, for its tests and those of spooling."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from actors.core.fix import Fix
from actors.core.parcel import Parcel, ParcelId, PersistenceMessage, Settled
from actors.core.rejection import Rejection
from actors.history.batcher import Batcher
from actors.history.committer import Committer
from actors.history.persistence import Persistence, PersistenceState
from actors.history.spooling import Spooling
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.kit.fakes import FakeSpool, FakeStore


@attrs.define(eq=False)
class World:
    """Persistence with a fake PostgreSQL."""

    persistence: Persistence
    spool: FakeSpool
    send: trio.MemorySendChannel[PersistenceMessage]
    store: FakeStore
    settled: list[ParcelId]
    settled_but: list[tuple[ParcelId, int]]
    told: list[tuple[list[Fix], list[Rejection]]]  # of each commit
    emptied: list[int]  # rows in PostgreSQL when it was said that the spool holds none
    metrics: Metrics
    health: Health

    def put(self, part: int, *fixes: Fix, rejections: tuple[Rejection, ...] = ()) -> None:
        self.send.send_nowait((Parcel((1, part), "R1" if fixes else "", fixes, rejections),))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"tracking_{name}", labels) or 0.0


@asynccontextmanager
async def world(max_rows: int = 100, max_wait_s: float = 0.1, with_spool: bool = False) -> AsyncIterator[World]:
    metrics = Metrics()
    health = Health(metrics)
    store = FakeStore()
    send, receive = trio.open_memory_channel[PersistenceMessage](math.inf)
    settled: list[ParcelId] = []
    settled_but: list[tuple[ParcelId, int]] = []
    spool = FakeSpool()

    def settle(message: Settled) -> None:
        settled.extend(message.parcels)
        settled_but.extend(message.but)
        metrics.count(message.tally)

    told: list[tuple[list[Fix], list[Rejection]]] = []
    emptied: list[int] = []
    committer = Committer(
        store, metrics, lambda _fixes: None, lambda fixes, rows: told.append((list(fixes), list(rows)))
    )
    spooling = Spooling(
        spool if with_spool else None, committer, metrics, health, 3, lambda: emptied.append(len(store.rows))
    )
    persistence = Persistence(
        PersistenceState(Batcher(max_rows, max_wait_s)), receive, settle, committer, spooling, health
    )
    yield World(persistence, spool, send, store, settled, settled_but, told, emptied, metrics, health)


@asynccontextmanager
async def running(w: World) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(w.persistence.run)
        yield
        nursery.cancel_scope.cancel()


def rejection(code: str = "bad_json") -> Rejection:
    return Rejection(code.encode().ljust(16, b"0")[:16], 0, "t", b"{", code, "x")
