"""Three nodes under random faults: each may lose its way to the broker, to Redis and to PostgreSQL, or be killed.

`python -m tests.simulation.cluster SEED` runs one.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator, Sequence

import attrs
import structlog
import trio
from trio.testing import MockClock

from actors.core.errors import StoreUnavailable
from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.core.timestamps import format_ms
from actors.drivers import Drivers
from actors.mqtt.events import Disconnected
from actors.settings.load import Settings
from tests.kit.fake_broker import FakeBroker, FakeLink
from tests.kit.fake_stream import FakeStream, StreamEnd
from tests.kit.fakes import FakeCache, FakeHistory, FakeSpool, FakeStore, Viewer
from tests.simulation.chaos import RACES, Sent, check_stream, keys, repeatable
from tests.simulation.world import FragileDaemon, now_ms

NODES = 3
MINUTES = 4.0
PEOPLE = 4
DOWN_S = (0.0, 2.0, 15.0)
"""A node that was killed starts again after so long."""


@attrs.define(eq=False)
class Shared:
    """What all nodes share."""

    rows: dict[bytes, Fix] = attrs.field(factory=dict)
    rejected: dict[bytes, Rejection] = attrs.field(factory=dict)
    live: dict[tuple[str, str], Fix] = attrs.field(factory=dict)
    stream: FakeStream = attrs.field(factory=FakeStream)


@attrs.define(eq=False)
class SimulatedNode:
    """A node, its broker session, its disk, its ways to the servers; and a dashboard of each race."""

    shared: Shared
    settings: Settings
    broker: FakeBroker = attrs.field(factory=FakeBroker)
    spool: FakeSpool = attrs.field(factory=FakeSpool)
    store: FakeStore = attrs.field(init=False)
    history: FakeHistory = attrs.field(init=False)
    cache: FakeCache = attrs.field(init=False)
    end: StreamEnd = attrs.field(init=False)
    link: FakeLink = attrs.field(init=False)
    daemon: FragileDaemon | None = None  # while it lives
    viewers: list[Viewer] = attrs.field(factory=list)  # of this life
    gone: list[Viewer] = attrs.field(factory=list)  # of earlier ones
    _life: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def run(self, rng: random.Random, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One life after the other, each with the same session and disk, until cancelled."""
        while True:
            with trio.CancelScope() as self._life:
                async with trio.open_nursery() as nursery:
                    self.daemon = FragileDaemon(
                        self.settings, now_ms, lambda _addresses: self._drivers(), lambda _daemon: []
                    )
                    await nursery.start(self.daemon.run)
                    self.viewers = [self._watch(self.daemon, race) for race in RACES]
                    task_status.started()
            self.daemon, task_status = None, trio.TASK_STATUS_IGNORED
            self.gone += self.viewers
            self.viewers = []
            await trio.sleep(rng.choice(DOWN_S))

    def kill(self) -> None:
        """Nothing is drained. (But what actors do when they are cancelled, they do.)"""
        self._life.cancel()

    def _drivers(self) -> Drivers:
        shared = self.shared
        self.store = FakeStore(rows=shared.rows, rejected=shared.rejected)
        self.history, self.cache = FakeHistory(self.store), FakeCache(live=shared.live)
        kept = self.spool
        self.spool = FakeSpool(waiting=kept.waiting)
        self.spool._next = kept._next
        self.link, self.end = self.broker.make_link(), StreamEnd(shared.stream)
        return Drivers(self.link, self.store, self.history, self.cache, self.spool, self.end)

    def _watch(self, daemon: FragileDaemon, race: str) -> Viewer:
        viewer = Viewer()
        viewer.outbox.expect(race)
        daemon.races.subscribe(race, viewer.outbox)
        return viewer

    def catch_up(self) -> None:
        for viewer in self.viewers:
            if self.daemon is not None:
                viewer.catch_up(self.daemon.races)

    def cut(self, server: str, off: bool) -> None:
        """The way to one of the servers goes, or comes back."""
        if self.daemon is None:
            return
        match server:
            case "postgres":
                self.store.trouble = StoreUnavailable("cut off") if off else None
                self.history.down = off
            case "redis":
                self.cache.down = self.end.down = off
            case _:
                self.broker.away = off
                if off and self.link in self.broker.links:
                    self.link.drop()
                    self.link.post(Disconnected(self.link.epoch, "cut off"))
                elif not off and self.link not in self.broker.links and "reader" in self.daemon.crashes.running:
                    self.link.connect()


async def trackers(made: Sequence[SimulatedNode], everywhere: bool, sent: set[Sent], rng: random.Random) -> None:
    """Each fix goes to one of the sessions, or to all of them; one in ten comes late, one in twenty comes again."""
    known: list[Sent] = []
    while True:
        await trio.sleep(rng.expovariate(2))
        late_ms = rng.randrange(100_000) if rng.random() < 0.1 else 0
        fix = f"P{rng.randrange(PEOPLE)}", rng.choice(RACES), now_ms() - late_ms
        if known and rng.random() < 0.05:
            fix = rng.choice(known)
        known.append(fix)
        sent.add(fix)
        publish(made if everywhere else [rng.choice(made)], fix)


def publish(to: Sequence[SimulatedNode], fix: Sent) -> None:
    who, race, at_ms = fix
    where = {"latitude": 47.0, "longitude": 8.0}
    for node in to:
        node.broker.publish({"participant_id": who, "race_id": race, "timestamp": format_ms(at_ms), **where})


async def troubles(made: Sequence[SimulatedNode], stream: FakeStream, rng: random.Random) -> None:
    """What may go wrong between nodes and servers, about every four seconds."""
    while True:
        await trio.sleep(rng.expovariate(1 / 4))
        node = rng.choice(made)
        match rng.randrange(12):
            case 0:
                node.kill()
            case 1:
                stream.losing = not stream.losing
            case 2:
                for each in made:
                    if each.daemon is not None:
                        each.cache.emptied()
                stream.begin_anew()
            case 3:
                if node.daemon is not None and node.daemon.crashes.running:
                    node.daemon.crashes.crash(rng.choice(sorted(node.daemon.crashes.running)))
            case _:
                node.cut(rng.choice(["postgres", "redis", "broker"]), rng.random() < 0.5)


async def catch_up(made: Sequence[SimulatedNode]) -> None:
    while True:
        await trio.sleep(0.5)
        for node in made:
            node.catch_up()


def ends(node: SimulatedNode) -> Iterator[dict[tuple[str, str], str]]:
    """Where each of its dashboards ended; none of them, nor of its earlier lives, went back."""
    for viewer in node.gone:
        check_stream(viewer)
    assert len(node.viewers) == len(RACES)
    yield from map(check_stream, node.viewers)


async def race_day(seed: int) -> None:
    """All of that for some minutes, then everything heals, and all has to agree."""
    rng = random.Random(seed)
    defaults = Settings()
    settings = attrs.evolve(
        defaults,
        supervisor=attrs.evolve(defaults.supervisor, max_restarts=1000),
        cluster=attrs.evolve(defaults.cluster, relay=True),
    )
    shared, sent = Shared(), set[Sent]()
    made = [SimulatedNode(shared, settings) for _ in range(NODES)]
    async with trio.open_nursery() as nursery:
        for node in made:
            await nursery.start(node.run, random.Random(rng.random()))
        nursery.start_soon(catch_up, made)
        async with trio.open_nursery() as trouble:
            trouble.start_soon(trackers, made, seed % 2 == 1, sent, random.Random(rng.random()))
            trouble.start_soon(troubles, made, shared.stream, random.Random(rng.random()))
            await trio.sleep(MINUTES * 60)
            trouble.cancel_scope.cancel()
        await trio.sleep(max(DOWN_S) + 1)
        shared.stream.losing = False
        for node in made:
            for server in ("postgres", "redis", "broker"):
                node.cut(server, False)
        await trio.sleep(60)
        last = [("last", race, now_ms()) for race in RACES]
        sent.update(last)
        for fix in last:
            publish([rng.choice(made)], fix)
        await trio.sleep(5)
        check(shared, sent, made)
        nursery.cancel_scope.cancel()


def check(shared: Shared, sent: set[Sent], made: Sequence[SimulatedNode]) -> None:
    """All that was sent is stored, once, and acknowledged, once; all dashboards and Redis show the newest of it."""
    assert keys(shared.rows.values()) == sent
    assert len(shared.rows) == len(sent)
    newest: dict[tuple[str, str], str] = {}
    for who, race, at_ms in sorted(sent, key=lambda fix: fix[2]):
        newest[race, who] = format_ms(at_ms)
    assert {key: format_ms(fix.timestamp_ms) for key, fix in shared.live.items()} == newest
    for node in made:
        assert node.broker.queue == {}
        assert sorted(node.broker.acknowledged) == list(range(1, node.broker.published + 1))
        assert node.spool.rows == 0
        seen: dict[tuple[str, str], str] = {}
        for shown in ends(node):
            seen |= shown
        assert seen == newest


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with repeatable(int(sys.argv[1])):
        trio.run(race_day, int(sys.argv[1]), clock=MockClock(autojump_threshold=0))
