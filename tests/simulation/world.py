"""The whole tree of supervisor.py with everything outside in memory, under a simulated clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import attrs
import trio
from prometheus_client import generate_latest

from actors.core.timestamps import Clock, format_ms
from actors.drivers import Drivers
from actors.races.race import Race
from actors.races.state import RaceState
from actors.settings.load import Settings
from actors.supervision.child import ChildSpec, Start
from supervisor import Daemon
from tests.kit.fake_broker import FakeBroker, FakeLink
from tests.kit.fakes import FakeCache, FakeHistory, FakeSpool, FakeStore, Viewer
from tests.kit.making import BASE_MS
from tests.kit.metrics import CAME, WENT, conserved, samples


def now_ms() -> int:
    """The wall clock of the simulation: starts at BASE_MS, runs with trio's clock."""
    return BASE_MS + round(trio.current_time() * 1000)


@attrs.define(eq=False)
class World:
    """A running daemon and what is around it."""

    daemon: FragileDaemon
    broker: FakeBroker
    store: FakeStore
    history: FakeHistory
    cache: FakeCache
    link: FakeLink
    spool: FakeSpool
    exit_code: int | None = None

    def publish(self, participant: str, *, race: str = "R1", at_ms: int | None = None, **more: Any) -> None:
        """A tracker sends a fix taken now, or at `at_ms`."""
        fix: dict[str, Any] = {
            "participant_id": participant,
            "race_id": race,
            "latitude": 47.0,
            "longitude": 8.0,
            "timestamp": format_ms(now_ms() if at_ms is None else at_ms),
        }
        self.broker.publish(fix | more)

    def watch(self, race: str = "R1") -> Viewer:
        """A dashboard subscribes."""
        viewer = Viewer()
        viewer.outbox.expect(race)
        self.daemon.races.subscribe(race, viewer.outbox)
        return viewer

    def count(self, name: str, **labels: str) -> float:
        """A metric's value; of a labelled counter without labels given, the sum."""
        samples = [
            sample.value
            for metric in self.daemon.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == f"tracking_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(samples)

    def check_conservation(self) -> None:
        """The conservation law."""
        numbers = self.daemon.metrics.registry.restricted_registry((*CAME, *WENT))
        assert conserved(samples(generate_latest(numbers).decode()))


class Crashes:
    """Makes actors crash wherever they wait: raises beside them, which cancels them and then counts as their crash."""

    def __init__(self) -> None:
        self.running: dict[str, trio.Nursery] = {}

    def wrap(self, name: str, start: Start) -> Start:
        async def run(*, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
            async with trio.open_nursery() as nursery:
                self.running[name] = nursery
                try:
                    await start(task_status=task_status)
                finally:
                    self.running.pop(name, None)
                nursery.cancel_scope.cancel()

        return run

    def crash(self, name: str) -> None:
        """The actor must be running."""
        self.running[name].start_soon(_raise, name)


async def _raise(name: str) -> None:
    raise RuntimeError(f"made to crash: {name}")


@attrs.define(eq=False)
class FragileDaemon(Daemon):
    """The same tree, every actor and every race of which can be made to crash."""

    crashes: Crashes = attrs.field(factory=Crashes)

    def _table(self) -> list[ChildSpec]:
        specs = super()._table()
        make_race = self.races.make_race

        def fragile_race(cell: RaceState) -> Race:
            run = self.crashes.wrap(f"race {cell.race_id}", make_race(cell).run)
            return cast("Race", SimpleNamespace(run=run))  # all that the directory wants of it

        self.races.make_race = fragile_race
        return [attrs.evolve(spec, start=self.crashes.wrap(spec.name, spec.start)) for spec in specs]


@asynccontextmanager
async def running_daemon(
    settings: Settings | None = None, clock: Clock = now_ms, *, spooling: bool = True
) -> AsyncIterator[World]:
    """Start the tree; on leaving it drains, and must do so cleanly when the test did not say otherwise."""
    store = FakeStore()
    broker, history, cache = FakeBroker(), FakeHistory(store), FakeCache()
    link, spool = broker.make_link(), FakeSpool()
    outside = Drivers(link, store, history, cache, spool if spooling else None)
    daemon = FragileDaemon(settings or Settings(), clock, lambda _addresses: outside, lambda _daemon: [])
    world = World(daemon, broker, store, history, cache, link, spool)

    async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await daemon.run(task_status=task_status)
        world.exit_code = daemon.tree.exit_code

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield world
        daemon.tree.stop()
