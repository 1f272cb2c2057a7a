"""The server's clock jumps an hour either way, while the trackers' clocks are right: nothing is lost or backward."""

from __future__ import annotations

import attrs
import trio
from trio.testing import MockClock

from actors.core.timestamps import format_ms
from actors.settings.load import Settings
from tests.kit.expected import unix_ms
from tests.kit.fakes import Viewer
from tests.simulation.world import World, now_ms, running_daemon

HOUR_MS = 3_600_000
STALE_S = 30.0  # [app] stale_data_threshold_ms


@attrs.define(eq=False)
class Wall:
    """The server's clock: right but for a step."""

    step_ms: int = 0

    def __call__(self) -> int:
        return now_ms() + self.step_ms


def check_forward(viewer: Viewer) -> None:
    """Each update of a participant is newer than the one before."""
    last: dict[str, str] = {}
    for update in viewer.updates():
        assert update["timestamp"] > last.get(update["participantId"], "")
        last[update["participantId"]] = update["timestamp"]


def told_stale(viewer: Viewer) -> list[str]:
    return [event["participantId"] for event in viewer.named("participant_stale")]


async def settle(world: World, fixes: int) -> None:
    """That many came, all are stored and acknowledged; and the windows of dashboards are over."""
    await trio.sleep(1)
    assert world.count("fixes_received_total") == fixes == len(world.store.rows)
    assert world.count("fixes_rejected_total") == 0
    assert world.broker.queue == {}
    world.check_conservation()


async def two_moving(world: World) -> Viewer:
    """A and B, as a dashboard sees them that was there before."""
    viewer = world.watch()
    await trio.sleep(1)  # until it has its snapshot
    world.publish("A")
    world.publish("B")
    await settle(world, 2)
    return viewer


async def test_an_hour_forward_and_back_again(autojump_clock: MockClock) -> None:
    """Everybody looks an hour old: late and stale, and as live as before."""
    wall = Wall()
    async with running_daemon(clock=wall) as world:
        viewer = await two_moving(world)
        assert world.count("fixes_late_total") == 0
        wall.step_ms = HOUR_MS
        await trio.sleep(STALE_S)
        assert sorted(told_stale(viewer)) == ["A", "B"]
        world.publish("A")
        await settle(world, 3)
        assert world.count("fixes_late_total") == 1
        ahead = viewer.updates()[-1]
        assert (ahead["participantId"], ahead["stale"]) == ("A", True)
        assert ahead["receivedAt"] == format_ms(unix_ms(ahead["timestamp"]) + HOUR_MS)
        wall.step_ms = 0
        world.publish("A")
        await settle(world, 4)
        assert world.count("fixes_late_total") == 1
        right = viewer.updates()[-1]
        assert (right["participantId"], right["stale"]) == ("A", False)
        assert right["receivedAt"] == right["timestamp"]
        await trio.sleep(STALE_S + 1)
        assert told_stale(viewer)[2:] == ["A"], "once for each time"
        check_forward(viewer)
    assert world.exit_code == 0


async def test_an_hour_back_and_forward_again(autojump_clock: MockClock) -> None:
    """Everybody is ahead of the server by more than max_clock_skew_ms: history only, until its clock is right again."""
    wall = Wall()
    async with running_daemon(clock=wall) as world:
        viewer = await two_moving(world)
        wall.step_ms = -HOUR_MS
        world.publish("A")
        world.publish("C")
        await settle(world, 4)
        await trio.sleep(STALE_S + 1)
        assert len(viewer.updates()) == 2
        assert told_stale(viewer) == []
        wall.step_ms = 0
        await trio.sleep(STALE_S + 1)  # nobody sends: the race has to look at the clock by itself
        assert sorted(told_stale(viewer)) == ["A", "B"]
        for who in "ABC":
            world.publish(who)
        await settle(world, 7)
        assert [update["participantId"] for update in viewer.updates()[2:]] == ["A", "B", "C"]
        assert {update["stale"] for update in viewer.updates()} == {False}
        check_forward(viewer)
    assert world.exit_code == 0


async def test_back_while_participants_are_stale(autojump_clock: MockClock) -> None:
    """They stay so for everybody, until they move: nobody was told otherwise."""
    wall = Wall()
    async with running_daemon(clock=wall) as world:
        viewer = await two_moving(world)
        await trio.sleep(STALE_S + 1)
        assert sorted(told_stale(viewer)) == ["A", "B"]
        wall.step_ms = -HOUR_MS
        await trio.sleep(STALE_S + 1)
        late = world.watch()
        await trio.sleep(1)
        (snapshot,) = late.named("race_snapshot")
        assert {one["participantId"]: one["stale"] for one in snapshot["positions"]} == {"A": True, "B": True}
        wall.step_ms = 0
        world.publish("A")
        await settle(world, 3)
        assert [(update["participantId"], update["stale"]) for update in late.updates()] == [("A", False)]
        await trio.sleep(STALE_S + 1)
        assert sorted(told_stale(viewer)) == ["A", "A", "B"]
        assert told_stale(late) == ["A"]
    assert world.exit_code == 0


async def test_what_was_history_only_under_a_wrong_clock_stays_so(autojump_clock: MockClock) -> None:
    """A race that was retired reads history: it shows what dashboards saw before."""
    wall = Wall()
    settings = Settings()
    async with running_daemon(settings, clock=wall) as world:
        world.publish("A")
        await settle(world, 1)
        wall.step_ms = -HOUR_MS
        world.publish("A")
        await settle(world, 2)
        wall.step_ms = 0
        await trio.sleep(settings.app.race_idle_ms / 1000 + 1)
        assert world.daemon.races.children == {}
        viewer = world.watch()
        await trio.sleep(1)
        (snapshot,) = viewer.named("race_snapshot")
        (position,) = snapshot["positions"]
        assert position["timestamp"] == format_ms(min(fix.timestamp_ms for fix in world.store.rows.values()))
    assert world.exit_code == 0


async def test_a_day_ahead_is_judged_by_the_clock_of_the_moment(autojump_clock: MockClock) -> None:
    """A tracker 23 and a half hours ahead is history; while the server is an hour behind, it is in the future."""
    wall = Wall()
    async with running_daemon(clock=wall) as world:
        for step_ms in (0, -HOUR_MS, 0):
            wall.step_ms = step_ms
            await trio.sleep(1)
            world.publish("A", at_ms=now_ms() + 23 * HOUR_MS + HOUR_MS // 2)
            await trio.sleep(1)
        assert len(world.store.rows) == 2
        assert [rejection.code for rejection in world.store.rejected.values()] == ["in_the_future"]
        assert world.broker.queue == {}
        world.check_conservation()
    assert world.exit_code == 0
