"""Limits of the settings, in the daemon as it is wired."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock

from actors.core.errors import StoreUnavailable
from actors.settings.load import Settings
from tests.simulation.world import running_daemon

DEFAULT = Settings()


@pytest.mark.parametrize(
    "settings",
    [
        attrs.evolve(DEFAULT, postgres=attrs.evolve(DEFAULT.postgres, queue_rows=10)),
        attrs.evolve(DEFAULT, mqtt=attrs.evolve(DEFAULT.mqtt, receive_maximum=9)),
    ],
    ids=["queue_rows", "receive_maximum"],
)
async def test_what_is_in_flight_stays_within_them(autojump_clock: MockClock, settings: Settings) -> None:
    """The broker keeps the rest, as long as nothing can be stored."""
    async with running_daemon(settings, spooling=False) as world:
        world.store.trouble = StoreUnavailable("away")
        for number in range(30):
            world.publish(f"P{number}")
            await trio.sleep(0.1)
        assert world.count("fixes_in_flight") == world.count("fixes_received_total") == 10
        assert len(world.broker.queue) == 30
        world.store.trouble = None
        await trio.sleep(30)
        assert world.count("fixes_committed_total") == 30
        assert world.broker.queue == {}
