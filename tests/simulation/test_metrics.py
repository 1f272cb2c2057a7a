"""Metrics that are read off the tree when they are scraped."""

from __future__ import annotations

import attrs
import trio
from trio.testing import MockClock

from actors.core.errors import StoreUnavailable
from actors.settings.load import Settings
from tests.simulation.world import running_daemon


async def test_the_oldest_unacknowledged_message_ages_until_it_is_durable(autojump_clock: MockClock) -> None:
    settings = Settings()
    settings = attrs.evolve(settings, postgres=attrs.evolve(settings.postgres, spool_after_s=3600))
    async with running_daemon(settings) as world:
        assert world.count("oldest_unacked_seconds") == 0
        world.store.trouble = StoreUnavailable("away")
        world.publish("A")
        await trio.sleep(40)
        world.publish("B")
        await trio.sleep(2)
        assert 41 < world.count("oldest_unacked_seconds") <= 42
        assert 0 < world.count("in_flight_ratio") < 0.01
        world.store.trouble = None
        await trio.sleep(30)
        assert world.count("fixes_committed_total") == 2
        assert world.count("oldest_unacked_seconds") == world.count("in_flight_ratio") == 0


async def test_counters_of_crashes_and_rejections_begin_at_0(autojump_clock: MockClock) -> None:
    """One that appears as 1 has not increased, to Prometheus."""
    async with running_daemon() as world:
        world.publish("A")
        await trio.sleep(1)
        value = world.daemon.metrics.registry.get_sample_value
        for actor in ("reader", "persistence", "live state", "races", "race"):
            assert value("tracking_actor_restarts_total", {"actor": actor}) == 0
        for code in ("bad_json", "poison"):
            assert value("tracking_fixes_rejected_total", {"code": code}) == 0
