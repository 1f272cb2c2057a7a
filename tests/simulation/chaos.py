"""The whole tree under random faults, and what must hold at every moment of it and at the end.

`python -m tests.simulation.chaos SEED MINUTES` prints a digest of what happened.
"""

from __future__ import annotations

import hashlib
import logging
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import attrs
import structlog
import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from actors.core.errors import SpoolFull, SpoolUnavailable, StoreMisconfigured, StoreUnavailable
from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.core.timestamps import format_ms
from actors.mqtt.events import Disconnected
from actors.races import slices, snapshots, turns
from actors.settings.load import Settings
from tests.kit.fakes import FakeCache, FakeHistory, FakeSpool, FakeStore, Viewer
from tests.simulation.world import World, now_ms, running_daemon

MINUTES = 10.0
RACES = ("A", "B", "C")
PEOPLE = 5
PEOPLE_IDS = tuple(f"P{number}" for number in range(PEOPLE))
SLOW_S = (0.0, 0.01, 2.0)
AWAY_S = (0.0, 0.0, 3.0, 40.0)

REFUSED_EACH = 199
"""PostgreSQL refuses one of as many fixes, where it is to refuse some: too few to be taken for a wrong set-up."""

Sent = tuple[str, str, int]
"""Participant, race, timestamp in ms."""


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """What is random in trio and in the tree comes from the seed, so that a failing seed replays exactly.

    trio shuffles the tasks that are ready at once, on purpose, with a generator of its own (trio/_core/_run.py, `_r`,
    and the switch that hypothesis uses, which sorts them first). Waits before a restart have a jitter. By each second
    seed all races are so large that a snapshot is made in turns.
    """
    large = seed % 2 == 1
    with (
        mock.patch.object(snapshots, "AT_ONCE", 1 if large else snapshots.AT_ONCE),
        mock.patch.object(slices, "SLICE", 1 if large else slices.SLICE),
        mock.patch.object(turns, "BATCH", 2 if large else turns.BATCH),
        mock.patch.object(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        mock.patch.object(trio_run, "_r", random.Random(seed)),
        mock.patch.object(random, "random", random.Random(seed).random),
    ):
        yield


@attrs.define(eq=False)
class Trackers:
    """What was published, by message number."""

    world: World
    refusing: bool  # what `refused` says
    fixes: dict[int, Sent] = attrs.field(factory=dict)
    rubbish: set[int] = attrs.field(factory=set)
    _looked_at: int = 0  # acknowledgements
    _durable: set[Sent] = attrs.field(factory=set)

    async def run(self, rng: random.Random) -> None:
        """Fixes of all participants: some late, some repeated, some broken."""
        while True:
            await trio.sleep(rng.expovariate(1))
            who, where, at = f"P{rng.randrange(PEOPLE)}", rng.choice(RACES), now_ms()
            if rng.random() < 0.1:
                at -= rng.randrange(120_000)
            if self.fixes and rng.random() < 0.05:
                who, where, at = rng.choice(list(self.fixes.values()))
            if rng.random() < 0.02:
                self.rubbish.add(self.world.broker.published + 1)
                self.world.broker.publish(b"rubbish %d" % len(self.rubbish))
            self.publish(who, where, at)

    def publish(self, who: str, race: str, at_ms: int) -> None:
        self.fixes[self.world.broker.published + 1] = (who, race, at_ms)
        self.world.publish(who, race=race, at_ms=at_ms)

    def check_acknowledged(self) -> None:
        """Whatever is acknowledged is stored, rejected or in the spool: what is durable once stays so."""
        world = self.world
        new = world.broker.acknowledged[self._looked_at :]
        self._looked_at += len(new)
        rows: list[Fix | Rejection] = [*world.spool.waiting.values(), *world.store.rejected.values()]
        durable = keys(world.store.rows.values()) | keys(row for row in rows if isinstance(row, Fix))
        assert self._taken({self.fixes[number] for number in new if number in self.fixes}) <= durable
        rejected = {row.payload for row in rows if isinstance(row, Rejection)}
        assert len(self.rubbish & set(world.broker.acknowledged)) <= len(rejected)

    def check_end(self) -> None:
        """Everything that was sent is stored, once, and nothing else; all is acknowledged, once."""
        world = self.world
        assert world.broker.queue == {}
        assert sorted(world.broker.acknowledged) == list(range(1, world.broker.published + 1))
        sent = set(self.fixes.values())
        taken = self._taken(sent)
        assert keys(world.store.rows.values()) == taken
        assert len(world.store.rows) == len(taken)
        rejected = list(world.store.rejected.values())
        assert sum(row.code == "poison" for row in rejected) == len(sent) - len(taken)
        assert {row.payload for row in rejected if row.code != "poison"} == {
            b"rubbish %d" % number for number in range(1, len(self.rubbish) + 1)
        }
        assert world.spool.rows == world.count("fixes_spooled") == 0
        assert world.count("fixes_in_flight") == 0
        world.check_conservation()

    def _taken(self, sent: set[Sent]) -> set[Sent]:
        return {fix for fix in sent if not (self.refusing and refused(fix[2]))}


def refused(timestamp_ms: int) -> bool:
    return timestamp_ms % REFUSED_EACH == 0


def keys(fixes: Iterable[Fix]) -> set[Sent]:
    return {(fix.participant_id, fix.race_id, fix.timestamp_ms) for fix in fixes}


async def crashes(world: World, rng: random.Random) -> None:
    """Every actor crashes about once a minute, at whatever it is waiting for then."""
    made = world.daemon.crashes
    while True:
        await trio.sleep(rng.expovariate(1 / 8))
        made.crash(rng.choice(sorted(made.running)))


async def troubles(world: World, trackers: Trackers, rng: random.Random) -> None:
    """Drivers that fail, are slow, lose a reply, lose the connection or what they held."""
    while True:
        await trio.sleep(rng.expovariate(1 / 8))
        world.check_conservation()
        trackers.check_acknowledged()
        match rng.randrange(15):
            case 0:
                world.store.trouble = StoreUnavailable("gone")
            case 1:
                world.store.trouble = StoreMisconfigured("no rights")
            case 2:
                world.store.late_trouble = StoreUnavailable("reply of COMMIT lost")
            case 3:
                world.store.write_trouble = rng.choice([StoreUnavailable("locked"), StoreMisconfigured("no column")])
            case 4:
                rng.choice(drivers(world)).delay_s = rng.choice(SLOW_S)
            case 5:
                world.cache.down = not world.cache.down
            case 6:
                world.cache.emptied()
            case 7:
                world.spool.trouble = SpoolFull("full") if world.spool.trouble is None else None
            case 8:
                world.spool.broken = SpoolUnavailable("disk") if world.spool.broken is None else None
            case 9:
                world.history.down = not world.history.down
            case 10:
                await connection_lost(world, rng.choice(AWAY_S))
            case 11:
                world.store.missing = frozenset(rng.choice([(), ("P0",), ("P0", "P1"), PEOPLE_IDS]))
            case _:
                world.store.trouble = world.store.write_trouble = None


async def connection_lost(world: World, away_s: float) -> None:
    link = world.link
    if link in world.broker.links:
        link.drop()
        link.post(Disconnected(link.epoch, "reset"))
        await trio.sleep(away_s)
        if link not in world.broker.links and "reader" in world.daemon.crashes.running:
            link.connect()


def drivers(world: World) -> tuple[FakeStore | FakeHistory | FakeCache | FakeSpool, ...]:
    """Those that can be slow."""
    return world.store, world.history, world.cache, world.spool


def heal(world: World) -> None:
    world.store.trouble = world.store.late_trouble = world.store.write_trouble = None
    world.store.missing = frozenset()
    world.spool.trouble = world.spool.broken = None
    for driver in drivers(world):
        driver.delay_s = 0.0
    world.cache.down = world.history.down = False
    if world.link not in world.broker.links:
        world.link.connect()


def check_stream(viewer: Viewer, refusing: bool = False) -> dict[tuple[str, str], str]:
    """Nobody ever goes back, but by a resync, or where rows are refused by a snapshot that was asked for before the
    resync. Returns where everybody ended.
    """
    live: dict[tuple[str, str], str] = {}
    for entry in viewer.events:
        data = entry["data"]
        if "resync" in data or (refusing and entry["event"] == "race_snapshot"):
            live.clear()
        for position in data.get("positions", [data] if entry["event"] == "position_update" else []):
            key = (position["raceId"], position["participantId"])
            if entry["event"] == "race_snapshot":
                assert position["timestamp"] >= live.get(key, "")
            else:
                assert position["timestamp"] > live.get(key, ""), "every update is a step forward"
            live[key] = position["timestamp"]
    return live


async def ask_again(world: World, viewers: Sequence[Viewer], trackers: Trackers, rng: random.Random) -> None:
    """For a snapshot, while fixes come."""
    while True:
        await trio.sleep(rng.expovariate(0.1))
        race_id, viewer = rng.choice(list(zip(RACES, viewers, strict=True)))
        if not viewer.outbox.expecting(race_id):
            viewer.outbox.expect(race_id)
            world.daemon.races.subscribe(race_id, viewer.outbox)
        for _ in range(rng.randrange(4)):
            for _ in range(rng.randrange(6)):
                await trio.lowlevel.checkpoint()
            trackers.publish(rng.choice(PEOPLE_IDS), race_id, now_ms())


async def catch_up(world: World, viewers: Sequence[Viewer]) -> None:
    while True:
        await trio.sleep(0.5)
        for viewer in viewers:
            viewer.catch_up(world.daemon.races)


async def race_day(seed: int, minutes: float, spooling: bool = True, refusing: bool = False) -> str:
    """So much of it, then everything heals, and all has to agree. A digest of what happened."""
    rng = random.Random(seed)
    defaults = Settings()
    patient = attrs.evolve(defaults.supervisor, max_restarts=1000)
    settings = attrs.evolve(defaults, supervisor=patient)
    async with running_daemon(settings, spooling=spooling) as world:
        viewers = [world.watch(race) for race in RACES]
        trackers = Trackers(world, refusing)
        if refusing:
            world.store.refuse = lambda fix: refused(fix.timestamp_ms)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trackers.run, random.Random(rng.random()))
            nursery.start_soon(ask_again, world, viewers, trackers, random.Random(rng.random()))
            nursery.start_soon(crashes, world, random.Random(rng.random()))
            nursery.start_soon(troubles, world, trackers, random.Random(rng.random()))
            if refusing:
                nursery.start_soon(catch_up, world, viewers)
            await trio.sleep(minutes * 60)
            nursery.cancel_scope.cancel()
        heal(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catch_up, world, viewers)
            await trio.sleep(60)
            for race in RACES:
                trackers.publish("last", race, now_ms() + refused(now_ms()))
            await trio.sleep(60)
            nursery.cancel_scope.cancel()

        trackers.check_end()
        rows = world.store.rows.values()
        newest = {(fix.race_id, fix.participant_id): fix for fix in sorted(rows, key=lambda fix: fix.rank)}
        seen: dict[tuple[str, str], str] = {}
        for viewer in viewers:
            seen |= check_stream(viewer, refusing)
        assert seen == {key: format_ms(fix.timestamp_ms) for key, fix in newest.items()}
        assert {key: fix.id for key, fix in world.cache.live.items()} == {key: fix.id for key, fix in newest.items()}
    assert world.exit_code == 0
    told = [viewer.events for viewer in viewers]
    happened = repr((told, world.broker.acknowledged, sorted(world.store.rows), trio.current_time()))
    return hashlib.sha256(happened.encode()).hexdigest()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with repeatable(int(sys.argv[1])):
        print(trio.run(race_day, int(sys.argv[1]), float(sys.argv[2]), clock=MockClock(autojump_threshold=0)))
