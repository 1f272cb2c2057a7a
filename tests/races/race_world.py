"""The directory of races with everything around it in memory."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from actors.cache.live_state import LiveMailbox
from actors.core.fix import Fix
from actors.core.parcel import Parcel, PersistenceMessage
from actors.history.mailbox import ParcelMailbox
from actors.races.directory import Directory
from actors.races.live_positions import LivePositions
from actors.races.race import Race, ToOtherNodes
from actors.races.restore import Restorer
from actors.races.state import RaceState
from actors.races.turns import all_live
from actors.supervision.child import State
from actors.supervision.restart import Budget
from actors.telemetry.metrics import Metrics
from tests.kit.fakes import FakeCache, FakeHistory, FakeStore, Viewer
from tests.kit.making import BASE_MS

STALE_MS = 30_000
IDLE_S = 100.0
WINDOW_S = 0.1


def now_ms() -> int:
    return BASE_MS + round(trio.current_time() * 1000)


@attrs.define(eq=False)
class World:
    """The directory with everything around it faked."""

    races: Directory
    persistence: trio.MemoryReceiveChannel[PersistenceMessage]
    live: LiveMailbox
    store: FakeStore
    history: FakeHistory
    cache: FakeCache
    standings: list[LivePositions]
    parcels: int = 0

    def route(self, *fixes: Fix, waited_s: float = 0.0) -> None:
        by_race: dict[str, list[Fix]] = {}
        for fix in fixes:
            by_race.setdefault(fix.race_id, []).append(fix)
        for race_id, group in by_race.items():
            self.parcels += 1
            self.races.route(Parcel((self.parcels, 0), race_id, tuple(group)), trio.current_time() - waited_s)

    def watch(self, race_id: str = "R1") -> Viewer:
        viewer = Viewer()
        viewer.outbox.expect(race_id)
        self.races.subscribe(race_id, viewer.outbox)
        return viewer

    def handed_over(self) -> list[Parcel]:
        found: list[Parcel] = []
        while self.persistence.statistics().current_buffer_used:
            found += self.persistence.receive_nowait()
        return found

    def all_live(self) -> list[Fix]:
        return [fix for some in all_live(self.races.states) for fix in some]

    def state(self, race_id: str = "R1") -> State | None:
        child = self.races.children.get(race_id)
        return child.state if child else None


MakeStanding = Callable[[], LivePositions]


@asynccontextmanager
async def world(
    max_races: int = 100,
    make_live_positions: MakeStanding | None = None,
    max_restarts: int = 2,
    window_s: float = WINDOW_S,
    relay: ToOtherNodes | None = None,
    store: FakeStore | None = None,
    cache: FakeCache | None = None,
) -> AsyncIterator[World]:
    """`store` and `cache`: those of another one, to which `relay` goes."""
    store, cache = store or FakeStore(), cache or FakeCache()
    history, live, metrics = FakeHistory(store), LiveMailbox(), Metrics()
    send, receive = trio.open_memory_channel[PersistenceMessage](math.inf)
    restore = Restorer(history, cache, 300_000)
    rows = ParcelMailbox(send)
    standings: list[LivePositions] = []

    def live_positions() -> LivePositions:
        standings.append((make_live_positions or (lambda: LivePositions(STALE_MS, 300_000)))())
        return standings[-1]

    def race(state: RaceState) -> Race:
        return Race(state, restore, rows, live, metrics, now_ms, window_s, IDLE_S, relay)

    budget = Budget(max_restarts, 30, 1, 4)
    races = Directory(race, live_positions, restore, rows, live, metrics, now_ms, budget, max_races, relay)
    async with trio.open_nursery() as nursery:
        await nursery.start(races.run)
        yield World(races, receive, live, store, history, cache, standings)
        nursery.cancel_scope.cancel()
