"""A position that was shown live and is refused in the end is taken back, and nothing else is."""

from __future__ import annotations

import attrs
import trio
from trio.testing import MockClock

from actors.core.fix import Fix
from actors.errors import StoreUnavailable
from actors.settings import Settings
from tests.simulation.world import World, now_ms, running_daemon


async def moved(world: World, participant: str, *latitudes: float) -> None:
    """One fix a second."""
    for latitude in latitudes:
        world.publish(participant, latitude=latitude)
        await trio.sleep(1)


def refuse_the_north(fix: Fix) -> bool:
    return fix.lat_e7 > 800_000_000


def cached(world: World) -> dict[str, float]:
    return {participant: fix.lat_e7 / 1e7 for (_, participant), fix in world.cache.live.items()}


async def test_a_refused_position_is_taken_back_once(autojump_clock: MockClock) -> None:
    async with running_daemon() as world:
        viewer = world.watch()
        await trio.sleep(1)
        await moved(world, "P1", 10.0, 20.0)
        world.store.refuse = refuse_the_north
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(20)
        shown = [(p["latitude"], p.get("corrected")) for p in viewer.updates() if p["participantId"] == "P1"]
        assert shown == [(10.0, None), (20.0, None), (85.0, None), (20.0, True)]
        assert cached(world) == {"P1": 20.0, "P2": 1.0}
        assert [r.code for r in world.store.rejected.values()] == ["poison"]
        late = world.watch()
        await trio.sleep(1)
        assert {p["participantId"]: p["latitude"] for p in late.named("race_snapshot")[0]["positions"]} == cached(world)
        world.check_conservation()


async def test_sent_again_it_does_not_come_back_and_later_fixes_do(autojump_clock: MockClock) -> None:
    async with running_daemon() as world:
        viewer = world.watch()
        await trio.sleep(1)
        world.store.refuse = refuse_the_north
        await moved(world, "P1", 10.0)
        at_ms = now_ms()
        for _ in range(3):
            world.publish("P1", latitude=85.0, at_ms=at_ms)
            world.publish("P2", latitude=1.0)
            await trio.sleep(10)
        await moved(world, "P1", 30.0)
        shown = [p["latitude"] for p in viewer.updates() if p["participantId"] == "P1"]
        assert shown == [10.0, 85.0, 10.0, 30.0]
        assert cached(world)["P1"] == 30.0


async def test_what_is_on_its_way_when_it_is_corrected_goes_live(autojump_clock: MockClock) -> None:
    async with running_daemon() as world:
        viewer = world.watch()
        await trio.sleep(1)
        world.store.refuse = refuse_the_north
        await moved(world, "P1", 10.0)
        between_ms = now_ms()
        await trio.sleep(1)
        world.store.delay_s = 0.6
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(2)
        world.publish("P1", latitude=15.0, at_ms=between_ms)  # older than what is live, and in a later batch
        await trio.sleep(30)
        assert [p["latitude"] for p in viewer.updates() if p["participantId"] == "P1"] == [10.0, 85.0, 15.0]
        assert cached(world)["P1"] == 15.0


async def test_a_participant_without_another_fix_is_gone(autojump_clock: MockClock) -> None:
    async with running_daemon() as world:
        viewer = world.watch()
        await trio.sleep(1)
        world.store.refuse = refuse_the_north
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(1)
        assert cached(world) == {"P2": 1.0}
        assert viewer.outbox.behind_due(trio.current_time() + 60) == ["R1"], "a new snapshot will tell"
        await trio.sleep(60)  # past its staleness
        again = world.watch()
        await trio.sleep(1)
        assert [p["participantId"] for p in again.named("race_snapshot")[0]["positions"]] == ["P2"]


async def test_it_is_corrected_when_postgresql_is_back_to_say_to_what(autojump_clock: MockClock) -> None:
    async with running_daemon() as world:
        viewer = world.watch()
        await trio.sleep(1)
        await moved(world, "P1", 10.0)
        world.store.refuse = refuse_the_north
        world.history.down = True
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(20)
        assert [p["latitude"] for p in viewer.updates() if p["participantId"] == "P1"] == [10.0, 85.0]
        world.history.down = False
        await trio.sleep(20)
        assert [p["latitude"] for p in viewer.updates() if p["participantId"] == "P1"] == [10.0, 85.0, 10.0]


async def test_a_race_that_nobody_runs_any_more_is_corrected_in_redis(autojump_clock: MockClock) -> None:
    async with running_daemon() as world:
        world.store.refuse = refuse_the_north
        await moved(world, "P1", 10.0)
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        world.store.delay_s = 2.0
        await trio.sleep(1)
        assert cached(world)["P1"] == 85.0
        refused = world.cache.live[("R1", "P1")]
        world.daemon.races.children["R1"].scope.cancel()
        world.daemon.races.children.clear()
        world.daemon.races.cells.clear()
        await trio.sleep(20)
        assert cached(world) == {"P1": 10.0, "P2": 1.0}
        assert refused.id not in world.store.rows


async def test_a_crash_while_correcting_is_made_good(autojump_clock: MockClock) -> None:
    async with running_daemon() as world:
        viewer = world.watch()
        await trio.sleep(1)
        await moved(world, "P1", 10.0)
        world.store.refuse = refuse_the_north
        world.history.down = True
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(2)
        world.daemon.crashes.crash("race R1")
        world.history.down = False
        await trio.sleep(20)
        assert [p["latitude"] for p in viewer.updates() if p["participantId"] == "P1"] == [10.0, 85.0, 10.0]


async def test_a_refused_position_in_redis_is_corrected_though_its_race_has_retired(autojump_clock: MockClock) -> None:
    """The race comes back without it, because Redis does not answer then; later Redis would bring it back."""
    settings = Settings.default()
    settings = attrs.evolve(settings, app=attrs.evolve(settings.app, race_idle_ms=2000))
    async with running_daemon(settings) as world:
        world.store.refuse = refuse_the_north
        await moved(world, "P1", 10.0)
        world.store.trouble = StoreUnavailable("gone")
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(20)
        assert cached(world) == {"P1": 85.0, "P2": 1.0}
        assert world.daemon.races.children == {}
        world.cache.down, world.store.trouble = True, None
        await trio.sleep(20)
        world.cache.down = False
        await trio.sleep(20)
        assert cached(world) == {"P1": 10.0, "P2": 1.0}
