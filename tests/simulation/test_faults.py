"""The whole tree under random faults: ten simulated minutes a seed, every actor crashed and every driver failing.

A failing seed replays exactly: `pytest tests/simulation/test_faults.py --seed N`. For that trio's scheduler is seeded
too: it shuffles the tasks that are ready at once, on purpose, with a generator of its own (trio/_core/_run.py, `_r`).
"""

from __future__ import annotations

import random

import attrs
import pytest
import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from actors.core.timestamps import format_ms
from actors.errors import SpoolFull, StoreMisconfigured, StoreUnavailable
from actors.messages import Disconnected
from actors.settings import Settings
from tests.actors.fakes import Viewer
from tests.simulation.world import World, now_ms, running_daemon

MINUTES = 10
RACES = ("A", "B", "C")
PEOPLE = 5


@pytest.fixture(autouse=True)
def repeatable_scheduler(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make trio choose among ready tasks by the seed (the same switch that hypothesis uses)."""
    monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(trio_run, "_r", random.Random(seed))
    monkeypatch.setattr(random, "random", random.Random(seed).random)


async def trackers(world: World, rng: random.Random) -> None:
    """Fixes of all participants: some late, some repeated, some broken."""
    sent: list[tuple[str, str, int]] = []
    while True:
        await trio.sleep(rng.expovariate(4))
        who, race, at = f"P{rng.randrange(PEOPLE)}", rng.choice(RACES), now_ms()
        if rng.random() < 0.1:
            at -= rng.randrange(120_000)
        if sent and rng.random() < 0.05:
            who, race, at = rng.choice(sent)
        sent.append((who, race, at))
        if rng.random() < 0.02:
            world.broker.publish(b"rubbish")
        world.publish(who, race=race, at_ms=at)


async def crashes(world: World, rng: random.Random) -> None:
    """Every actor crashes about once a minute, at whatever it is waiting for then."""
    made = world.daemon.crashes
    while True:
        await trio.sleep(rng.expovariate(1 / 8))
        name = rng.choice(sorted(made.running))
        made.crash(name)


async def troubles(world: World, rng: random.Random) -> None:
    """Drivers that fail, are slow, lose a reply, lose the connection or what they held."""
    while True:
        await trio.sleep(rng.expovariate(1 / 10))
        world.check_conservation()
        match rng.randrange(9):
            case 0:
                world.store.trouble = StoreUnavailable("gone")
            case 1:
                world.store.trouble = StoreMisconfigured("no rights")
            case 2:
                world.store.late_trouble = StoreUnavailable("reply of COMMIT lost")
            case 3:
                world.store.delay_s = rng.choice([0, 0.01, 2.0])
            case 4:
                world.cache.down = not world.cache.down
            case 5:
                world.cache.emptied()
            case 6 if rng.random() < 0.5:
                world.spool.trouble = SpoolFull("full") if world.spool.trouble is None else None
            case 6:
                world.history.down = not world.history.down
            case 7 if world.link in world.broker.links:
                world.link.drop()
                world.link.post(Disconnected(world.link.epoch, "reset"))
                world.link.connect()
            case _:
                world.store.trouble = None


def heal(world: World) -> None:
    world.store.trouble = world.store.late_trouble = world.spool.trouble = None
    world.store.delay_s = 0
    world.cache.down = world.history.down = False


def check_stream(viewer: Viewer) -> dict[tuple[str, str], str]:
    """Nobody ever goes back. Returns where everybody ended."""
    live: dict[tuple[str, str], str] = {}
    for entry in viewer.events:
        data = entry["data"]
        for position in data.get("positions", [data] if entry["event"] == "position_update" else []):
            key = (position["raceId"], position["participantId"])
            if entry["event"] == "race_snapshot":
                assert position["timestamp"] >= live.get(key, "")
            else:
                assert position["timestamp"] > live.get(key, ""), "every update is a step forward"
            live[key] = position["timestamp"]
    return live


async def test_nothing_lost_nothing_twice_all_converge(autojump_clock: MockClock, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    defaults = Settings.default()
    patient = attrs.evolve(defaults.supervisor, max_restarts=1000)
    settings = attrs.evolve(defaults, supervisor=patient)
    async with running_daemon(settings) as world:
        viewers = [world.watch(race) for race in RACES]
        async with trio.open_nursery() as nursery:
            for work in (trackers, crashes, troubles):
                nursery.start_soon(work, world, random.Random(rng.random()))
            await trio.sleep(MINUTES * 60)
            nursery.cancel_scope.cancel()
        heal(world)
        await trio.sleep(60)
        for race in RACES:
            world.publish("last", race=race)
        await trio.sleep(60)

        assert world.broker.queue == {}, "everything was acknowledged in the end"
        rows = list(world.store.rows.values())
        world.check_conservation()
        assert world.count("fixes_in_flight") == 0
        assert world.spool.rows == world.count("fixes_spooled") == 0
        newest = {(f.race_id, f.participant_id): f for f in sorted(rows, key=lambda f: f.rank)}
        expected = {key: format_ms(fix.timestamp_ms) for key, fix in newest.items()}
        seen: dict[tuple[str, str], str] = {}
        for viewer in viewers:
            seen |= check_stream(viewer)
        assert seen == expected
        assert {key: fix.id for key, fix in world.cache.live.items()} == {key: fix.id for key, fix in newest.items()}
    assert world.exit_code == 0
