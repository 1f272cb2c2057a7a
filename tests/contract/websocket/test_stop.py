"""WebSocket: 1001 when the daemon stops."""

from __future__ import annotations

import signal

import pytest
import trio

from tests.kit.outside_world import World
from tests.kit.outsider import fix, now_ms

pytestmark = pytest.mark.live


def test_1001_when_the_daemon_stops(world: World) -> None:
    """A daemon of its own, because it ends. What is in the window still comes."""
    place = world.start(ws={"batch_window_ms": 60_000})
    race = place.race()

    async def watch() -> tuple[list[str], int | None, int | None]:
        events: list[str] = []
        async with place.dashboard() as board, place.dashboard() as idle:
            await board.subscribe(race)
            await place.stored(fix(race, "P1", now_ms()))
            place.running.process.send_signal(signal.SIGTERM)
            code = await board.closed(events)
            return events, code, await idle.closed()

    assert trio.run(watch) == (["position_update"], 1001, 1001)
    assert place.running.process.wait(20) == 0
