"""How long the loop is held."""

from __future__ import annotations

import time

import pytest
import trio
from prometheus_client import CollectorRegistry

from actors.telemetry.stall import BUCKETS_S, LoopWatch


def passes(watch: LoopWatch) -> dict[float, float]:
    """Bucket in seconds -> passes that were at most that long."""
    registry = CollectorRegistry()
    registry.register(watch)
    name = "tracking_loop_stall_seconds"
    found = {le: registry.get_sample_value(f"{name}_bucket", {"le": str(le)}) or 0.0 for le in BUCKETS_S}
    assert registry.get_sample_value(f"{name}_count") == registry.get_sample_value(f"{name}_bucket", {"le": "+Inf"})
    return found


@pytest.mark.parametrize(
    ("timeout_s", "waited_s", "took_s", "held_s"),
    [
        (10, 3, 0.0005, 0.0005),  # something came before the timer
        (0.5, 0.5, 0.03, 0.03),
        (0.5, 0.8, 0.03, 0.33),  # the machine was busy with others
        (0, 0, 0.7, 0.7),
    ],
)
def test_a_pass_that_is_late_and_long(timeout_s: float, waited_s: float, took_s: float, held_s: float) -> None:
    now = 100.0
    watch = LoopWatch(lambda: now)
    watch.before_io_wait(timeout_s)
    before = passes(watch)
    now += waited_s
    watch.after_io_wait(timeout_s)
    now += took_s
    watch.before_io_wait(1)
    assert {le: count - before[le] for le, count in passes(watch).items()} == {le: le >= held_s for le in BUCKETS_S}


def test_it_sees_a_step_that_holds_the_loop() -> None:
    watch = LoopWatch()

    async def main() -> None:
        trio.lowlevel.add_instrument(watch)
        await trio.sleep(0.001)
        before = passes(watch)
        time.sleep(0.06)  # noqa: ASYNC251 this is the fault
        await trio.sleep(0.001)
        assert sum(passes(watch).values()) > sum(before.values())
        assert passes(watch)[0.05] == before[0.05], "a pass of over 50 ms is in no bucket up to there"

    trio.run(main)
