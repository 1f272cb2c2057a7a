"""What other nodes show reaches races that somebody watches here, and no others."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.position import position_json
from actors.dashboards import events
from actors.dashboards.frames import Frame
from actors.races.messages import ShownElsewhere
from actors.relay.elsewhere import Elsewhere
from actors.relay.mailbox import RelayMailbox
from actors.supervision.child import State
from tests.kit.making import make_fix
from tests.races.race_world import world


def shown(*fixes: tuple[str, float]) -> ShownElsewhere:
    made = tuple(make_fix(who, at_s) for who, at_s in fixes)
    event = events.changes_event("R1", [position_json(fix, False) for fix in made])
    return ShownElsewhere(made, (False,) * len(made), Frame(event))


async def test_a_race_without_dashboards_and_fixes_stays_so(autojump_clock: MockClock) -> None:
    async with world() as w:
        elsewhere = Elsewhere(w.races, RelayMailbox(compressing=False))
        elsewhere.shown("R1", shown(("P1", 0)))
        elsewhere.read_again("R1")
        await elsewhere.hear_all(False)
        assert w.races.states == {}


async def test_the_frame_goes_on_as_it_came_unless_something_newer_is_live(autojump_clock: MockClock) -> None:
    async with world() as w:
        elsewhere = Elsewhere(w.races, RelayMailbox(compressing=False))
        viewer = w.watch()
        await wait_all_tasks_blocked()
        elsewhere.shown("R1", shown(("P1", 5), ("P2", 5)))
        await trio.sleep(1)
        assert len(viewer.named("batch_position_update")) == 1
        elsewhere.shown("R1", shown(("P1", 4), ("P2", 6)))
        await trio.sleep(1)
        (update,) = viewer.named("position_update")
        assert update["participantId"] == "P2"
        elsewhere.shown("R1", shown(("P1", 4), ("P2", 6)))
        await trio.sleep(1)
        assert len(viewer.updates()) == 3


async def test_a_race_that_is_stopped_is_told_nothing(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.route(make_fix())
        await wait_all_tasks_blocked()
        w.races.children["R1"].state = State.PARKED
        Elsewhere(w.races, RelayMailbox(compressing=False)).shown("R1", shown(("P1", 5)))
        assert not w.races.states["R1"].mailbox
