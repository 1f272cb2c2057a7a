"""A position that was shown live and is refused in the end is taken back by a resync, everywhere; nothing else is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from trio.testing import MockClock

from actors.core.errors import StoreUnavailable
from actors.core.fix import Fix
from actors.settings.load import Settings
from tests.kit.fakes import Viewer
from tests.simulation.world import World, now_ms, running_daemon


async def moved(world: World, participant: str, *latitudes: float) -> None:
    """One fix a second."""
    for latitude in latitudes:
        world.publish(participant, latitude=latitude)
        await trio.sleep(1)


def refuse_the_north(fix: Fix) -> bool:
    return fix.lat_e7 > 800_000_000


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[World, Viewer]]:
    """A daemon, and a dashboard of its race that asks for a snapshot whenever it is behind."""
    async with running_daemon() as world:
        viewer = world.watch()
        await trio.sleep(1)
        world.store.delay_s = 0.2  # what is refused is shown first

        async def keep_up() -> None:
            while True:
                await trio.sleep(0.05)
                viewer.catch_up(world.daemon.races)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_up)
            yield world, viewer
            nursery.cancel_scope.cancel()


def of_p1(viewer: Viewer) -> list[float]:
    """Where P1 was shown, by updates and by snapshots; -1 by one without it."""
    shown: list[float] = []
    for entry in viewer.events:
        if entry["event"] != "participant_stale":
            positions = entry["data"].get("positions", [entry["data"]])
            found = [p["latitude"] for p in positions if p["participantId"] == "P1"]
            shown += found or [-1] * (entry["event"] == "race_snapshot")
    return shown


def cached(world: World) -> dict[str, float]:
    return {participant: fix.lat_e7 / 1e7 for (_, participant), fix in world.cache.live.items()}


async def test_a_refused_position_is_taken_back_once(autojump_clock: MockClock) -> None:
    async with watched() as (world, viewer):
        await moved(world, "P1", 10.0, 20.0)
        world.store.refuse = refuse_the_north
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(20)
        assert of_p1(viewer) == [-1, 10.0, 20.0, 85.0, 20.0]
        assert viewer.resyncs() == [[20.0, 1.0]]
        assert cached(world) == {"P1": 20.0, "P2": 1.0}
        assert [r.code for r in world.store.rejected.values()] == ["poison"]
        late = world.watch()
        await trio.sleep(1)
        assert {p["participantId"]: p["latitude"] for p in late.named("race_snapshot")[0]["positions"]} == cached(world)
        world.check_conservation()


async def test_sent_again_it_does_not_come_back_and_later_fixes_do(autojump_clock: MockClock) -> None:
    async with watched() as (world, viewer):
        world.store.refuse = refuse_the_north
        await moved(world, "P1", 10.0)
        at_ms = now_ms()
        for _ in range(3):
            world.publish("P1", latitude=85.0, at_ms=at_ms)
            world.publish("P2", latitude=1.0)
            await trio.sleep(10)
        await moved(world, "P1", 30.0)
        assert of_p1(viewer) == [-1, 10.0, 85.0, 10.0, 30.0]
        assert cached(world)["P1"] == 30.0


async def test_what_is_on_its_way_when_it_is_taken_back_goes_live(autojump_clock: MockClock) -> None:
    async with watched() as (world, viewer):
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
        assert of_p1(viewer) == [-1, 10.0, 85.0, 15.0]
        assert cached(world)["P1"] == 15.0


async def test_one_that_a_refused_row_hides_in_the_spool_goes_live(autojump_clock: MockClock) -> None:
    """Of each participant the spool tells the greatest, which here is refused and not out of it yet."""
    async with watched() as (world, viewer):
        await moved(world, "P1", 10.0)
        world.store.write_trouble = StoreUnavailable("gone")
        between_ms = now_ms()
        await trio.sleep(1)
        world.publish("P2", latitude=1.0)
        await trio.sleep(15)
        world.publish("P1", latitude=85.0)
        await trio.sleep(3)
        for number in range(10):  # they fill the batch of the refused row: few rows at a time after an outage
            world.publish(f"X{number}", latitude=1.0)
        await trio.sleep(3)
        world.publish("P1", latitude=15.0, at_ms=between_ms)
        await trio.sleep(3)
        assert world.spool.rows == 13
        world.spool.remove_s, world.store.write_trouble, world.store.refuse = 2.0, None, refuse_the_north
        await trio.sleep(60)
        assert of_p1(viewer) == [-1, 10.0, 85.0, 10.0, 15.0]
        assert cached(world)["P1"] == 15.0


async def test_a_participant_without_another_fix_is_gone(autojump_clock: MockClock) -> None:
    async with watched() as (world, viewer):
        world.store.refuse = refuse_the_north
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(2)
        assert cached(world) == {"P2": 1.0}
        await trio.sleep(60)  # past its staleness
        assert of_p1(viewer) == [-1, 85.0, -1]
        assert [told["participantId"] for told in viewer.named("participant_stale")] == ["P2"]


async def test_it_is_shown_again_when_postgresql_is_back_to_say_where_it_was(autojump_clock: MockClock) -> None:
    async with watched() as (world, viewer):
        await moved(world, "P1", 10.0)
        world.store.refuse = refuse_the_north
        world.history.down = True
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(20)
        assert of_p1(viewer) == [-1, 10.0, 85.0, -1]
        world.history.down = False
        await trio.sleep(20)
        assert of_p1(viewer) == [-1, 10.0, 85.0, -1, 10.0]
        assert cached(world) == {"P1": 10.0, "P2": 1.0}


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
        world.daemon.races.states.clear()
        await trio.sleep(20)
        assert cached(world) == {"P1": 10.0, "P2": 1.0}
        assert refused.id not in world.store.rows


async def test_a_crash_while_the_stores_are_read_again_is_made_good(autojump_clock: MockClock) -> None:
    async with watched() as (world, viewer):
        await moved(world, "P1", 10.0)
        world.store.refuse = refuse_the_north
        world.history.delay_s = 2
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(2)
        world.daemon.crashes.crash("race R1")
        await trio.sleep(20)
        assert of_p1(viewer) == [-1, 10.0, 85.0, 10.0]
        assert cached(world) == {"P1": 10.0, "P2": 1.0}


async def test_it_does_not_come_back_from_redis_with_the_next_run_of_the_daemon(autojump_clock: MockClock) -> None:
    """Which ended between the rejection and the deletion in Redis."""
    async with running_daemon() as world:
        await moved(world, "P1", 10.0)
        world.store.refuse, world.store.delay_s = refuse_the_north, 0.2
        world.publish("P1", latitude=85.0)
        world.publish("P2", latitude=1.0)
        await trio.sleep(0.15)
        ahead = dict(world.cache.live)
        await trio.sleep(10)
        store = world.store
    assert ahead[("R1", "P1")].lat_e7 == 850_000_000
    async with running_daemon() as world:
        world.store.rows, world.store.rejected, world.cache.live = store.rows, store.rejected, ahead
        viewer = world.watch()
        await trio.sleep(10)
        assert of_p1(viewer) == [10.0]
        assert cached(world) == {"P1": 10.0, "P2": 1.0}


async def test_a_refused_position_in_redis_is_corrected_though_its_race_has_retired(autojump_clock: MockClock) -> None:
    """The race comes back without it, because Redis does not answer then; later Redis would bring it back."""
    settings = Settings()
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
