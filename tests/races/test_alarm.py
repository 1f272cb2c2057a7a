"""A race looks up in time though its alarm is not set for each message."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.kit.making import make_fix
from tests.races.race_world import STALE_MS, World, world

pytestmark = pytest.mark.usefixtures("both_ways")

STALE_S = STALE_MS / 1000


async def stale(w: World) -> dict[str, bool]:
    """By participant, as HTTP tells it."""
    told = json.loads(b"[%b]" % await w.races.positions("R1"))
    return {position["participantId"]: position["stale"] for position in told}


async def test_somebody_who_will_be_stale_before_all_others_is_so_in_time(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.route(make_fix("P1"))
        await wait_all_tasks_blocked()
        w.route(make_fix("P2", at_s=-STALE_S + 5, arrived_s=0))
        await trio.sleep(4)
        assert await stale(w) == {"P1": False, "P2": False}
        await trio.sleep(2)
        assert await stale(w) == {"P1": False, "P2": True}
        await trio.sleep(STALE_S - 5)
        assert await stale(w) == {"P1": True, "P2": True}


async def test_the_window_of_a_race_that_somebody_watches_is_sent_in_time(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.route(make_fix("P1"))
        viewer = w.watch()
        await trio.sleep(1)
        w.route(make_fix("P1", at_s=1))
        await trio.sleep(0.09)
        assert not viewer.named("position_update")
        await trio.sleep(0.02)
        assert len(viewer.named("position_update")) == 1
