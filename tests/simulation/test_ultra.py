"""A 30-hour ultra race of 100 participants through the whole tree, in seconds of real time.

Fixes every five minutes, dead zones from which phones come back with arrays, drop-outs who fall silent, finishers; a
dashboard from start to end, others that come and go. Afterwards everything agrees with everything.
"""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from actors.core.timestamps import format_ms
from actors.settings.load import Settings
from tests.kit.fakes import Viewer
from tests.kit.making import BASE_MS
from tests.simulation.world import World, now_ms, running_daemon

HOURS = 30
PEOPLE = 100
EVERY_S = 300.0
SEED = 20250701


async def walk(world: World, number: int, rng: random.Random) -> None:
    """One participant: walks, is now and then in a dead zone, and finishes, or falls silent."""
    me = f"P{number:03}"
    await trio.sleep(5 * rng.randrange(60))
    ends_at = rng.uniform(20, HOURS - 1) * 3600
    silent = number % 10 == 0
    waiting: list[dict[str, Any]] = []
    while trio.current_time() < ends_at:
        fix = {
            "participant_id": me,
            "race_id": "ultra",
            "latitude": 47 + number / 1e4 + trio.current_time() / 1e6,
            "longitude": 8.5,
            "timestamp": format_ms(now_ms()),
        }
        waiting.append(fix)
        if rng.random() > 0.1 or len(waiting) > 30:
            world.broker.publish(waiting if len(waiting) > 1 else fix)
            waiting = []
        await trio.sleep(EVERY_S)
    if not silent:
        world.publish(me, race="ultra", status="finished")


def told_stale(viewer: Viewer) -> set[str]:
    """Who is stale in the end, by what the stream said in its order."""
    stale: set[str] = set()
    for entry in viewer.events:
        data = entry["data"]
        if entry["event"] == "participant_stale":
            stale.add(data["participantId"])
        for position in data.get("positions", [data] if "stale" in data else []):
            (stale.add if position["stale"] else stale.discard)(position["participantId"])
    return stale


@pytest.mark.usefixtures("at_full_speed")
async def test_thirty_hours(autojump_clock: MockClock) -> None:
    defaults = Settings()
    settings = attrs.evolve(defaults, app=attrs.evolve(defaults.app, stale_data_threshold_ms=600_000))
    rng = random.Random(SEED)
    async with running_daemon(settings) as world:
        viewer = world.watch("ultra")
        async with trio.open_nursery() as nursery:
            for number in range(PEOPLE):
                nursery.start_soon(walk, world, number, random.Random(rng.random()))
            await trio.sleep(HOURS * 3600 / 2)
            half = world.watch("ultra")
            await trio.sleep(10)
            half.outbox.forget("ultra")
            world.daemon.races.unsubscribe("ultra", half.outbox)
            seen_by_half = len(half.events)
        await trio.sleep(1000)
        late = world.watch("ultra")
        await trio.sleep(1)

        assert world.broker.queue == {}
        assert world.broker.acknowledged == list(range(1, world.broker.published + 1))
        rows = list(world.store.rows.values())
        assert world.count("fixes_committed_total") == len(rows) == world.count("fixes_received_total")
        assert len(rows) > PEOPLE * 19 * 3600 / EVERY_S
        world.check_conservation()

        newest = {fix.participant_id: fix for fix in sorted(rows, key=lambda fix: fix.rank)}
        assert len(newest) == PEOPLE
        assert {key[1]: fix for key, fix in world.cache.live.items()} == newest

        # The dashboard that was there throughout: nobody ever goes back, and it ends in the newest.
        last: dict[str, str] = {}
        for update in viewer.updates():
            assert update["timestamp"] > last.get(update["participantId"], "")
            last[update["participantId"]] = update["timestamp"]
        assert last == {pid: format_ms(fix.timestamp_ms) for pid, fix in newest.items()}
        assert len(half.events) == seen_by_half

        (snapshot,) = late.named("race_snapshot")
        assert {p["participantId"]: p["timestamp"] for p in snapshot["positions"]} == last
        silent = {f"P{number:03}" for number in range(0, PEOPLE, 10)}
        assert {p["participantId"] for p in snapshot["positions"] if p["stale"]} == silent
        assert told_stale(viewer) == silent, "the stream told what the snapshot shows"

        for watching in (viewer, late):
            watching.outbox.forget("ultra")
            world.daemon.races.unsubscribe("ultra", watching.outbox)
        await trio.sleep(settings.app.race_idle_ms / 1000 + 1)
        assert world.daemon.races.children == {}, "retired when idle and unwatched"
    assert world.exit_code == 0
    assert now_ms() > BASE_MS + HOURS * 3_600_000
