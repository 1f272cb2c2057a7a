"""How late a timer is, under a clock that is set."""

from __future__ import annotations

import trio
import trio.testing

from actors.telemetry.metrics import Metrics
from actors.telemetry.stall import EVERY_S, LoopWatch


async def test_what_holds_the_loop_is_measured(mock_clock: trio.testing.MockClock) -> None:
    metrics = Metrics()

    def at_most(seconds: float) -> float | None:
        return metrics.registry.get_sample_value("tracking_loop_stall_seconds_bucket", {"le": str(seconds)})

    async with trio.open_nursery() as nursery:
        await nursery.start(LoopWatch(metrics).run)
        for held_s in (0, 0, 0.03, 0.7):  # nobody has a turn while the clock goes on
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(EVERY_S + held_s)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [at_most(seconds) for seconds in (0.001, 0.05, 0.5, 1.0)] == [2, 3, 3, 4]
