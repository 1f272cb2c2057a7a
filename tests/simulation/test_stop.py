"""A stop closes the drivers: after everything is durable, before the servers behind them end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.core.errors import NotStarted, StoreUnavailable
from actors.drivers import Drivers
from actors.settings.load import Settings
from tests.kit.fake_broker import FakeBroker
from tests.kit.fakes import FakeCache, FakeHistory, FakeSpool, FakeStore
from tests.simulation.world import FragileDaemon, now_ms, running_daemon


async def test_every_driver_is_closed_when_all_is_durable(autojump_clock: MockClock) -> None:
    async with running_daemon() as world:
        world.store.delay_s = 0.5
        for number in range(10):
            world.publish(f"P{number}")
        await trio.sleep(0.1)
    assert world.exit_code == 0
    assert len(world.store.rows) == 10  # a driver used after its closing raises
    assert all(driver.closed for driver in (world.store, world.history, world.cache, world.spool))


async def test_what_stays_in_the_spool_is_said(autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_daemon() as world:
        world.publish("P1")
        await trio.sleep(10)
    assert "spool keeps rows" not in capsys.readouterr().out
    async with running_daemon() as world:
        world.store.trouble = StoreUnavailable("away")
        world.publish("P1")
        world.publish("P2")
        await trio.sleep(10)
    assert 'event="this node\'s spool keeps rows until it runs again" rows=2' in capsys.readouterr().out


async def test_without_a_spool_there_is_none_to_close(autojump_clock: MockClock) -> None:
    async with running_daemon(spooling=False) as world:
        pass
    assert world.store.closed
    assert not world.spool.closed


@pytest.mark.parametrize("starts", [True, False])
async def test_the_embedded_servers_end_last(autojump_clock: MockClock, starts: bool) -> None:
    """Also when the tree does not come up."""
    broker, store = FakeBroker(), FakeStore()
    history, cache, spool = FakeHistory(store), FakeCache(), FakeSpool()
    outside = Drivers(broker.make_link(), store, history, cache, spool)
    closed_before: list[bool] = []

    async def servers(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            closed_before.extend(driver.closed for driver in (store, history, cache, spool))

    async def edge(*, task_status: trio.TaskStatus[None]) -> None:
        if not starts:
            raise NotStarted("no port")
        task_status.started()
        await trio.sleep_forever()

    daemon = FragileDaemon(Settings(), now_ms, lambda _told: outside, lambda _daemon: [("edge", edge)], servers)
    if starts:
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.run)
            daemon.tree.stop()
    else:
        with pytest.RaisesGroup(NotStarted, flatten_subgroups=True, allow_unwrapped=True):
            await daemon.run()
    assert closed_before == [True] * 4
