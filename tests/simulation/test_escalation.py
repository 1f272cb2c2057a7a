"""An actor that raises each time: its budget is spent, the daemon drains and ends with 1, and nothing is lost.

One race that does so is parked alone: tests/races/test_directory.py.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.simulation.world import World, now_ms, running_daemon


async def crash_again_and_again(world: World, name: str) -> None:
    made = world.daemon.crashes
    while world.exit_code is None:
        if name in made.running:
            made.crash(name)
        await trio.sleep(0.05)


async def keep_sending(world: World, sent: list[tuple[str, int]]) -> None:
    """`sent` is by message number, from 1."""
    while world.exit_code is None:
        sent.append((f"P{len(sent) % 5}", now_ms()))
        world.publish(sent[-1][0], at_ms=sent[-1][1])
        await trio.sleep(0.02)


@pytest.mark.parametrize("name", ["persistence", "live state", "races", "reader"])
async def test_the_daemon_drains_and_ends_with_1(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    sent: list[tuple[str, int]] = []
    async with running_daemon() as world, trio.open_nursery() as nursery:
        nursery.start_soon(keep_sending, world, sent)
        await trio.sleep(1)
        assert world.exit_code is None
        with trio.fail_after(60):
            await crash_again_and_again(world, name)
        assert world.exit_code == 1
    said = capsys.readouterr().out
    assert f"event='restart budget spent' actor='{name}'" in said
    assert world.daemon.metrics.registry.get_sample_value("tracking_actor_restarts_total", {"actor": name}) == 5
    world.check_conservation()
    stored = {(fix.participant_id, fix.timestamp_ms) for fix in world.store.rows.values()}
    assert len(stored) == len(world.store.rows)
    acknowledged = {sent[number - 1] for number in world.broker.acknowledged}
    assert acknowledged
    assert acknowledged <= stored <= set(sent)
    assert len(acknowledged) + len(world.broker.queue) == len(sent), "the broker keeps the rest"
    if name in ("live state", "races"):
        assert "drained: everything taken is committed and acknowledged" in said
        assert world.count("fixes_in_flight") == 0
    else:
        assert "drain cut short, the broker keeps the rest" in said
