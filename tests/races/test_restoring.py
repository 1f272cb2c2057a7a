"""A race is read again for as long as something of it may be missing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs
import trio
from trio.testing import MockClock

from actors.core.fix import Fix
from actors.dashboards.frames import Frame
from actors.races.messages import Doubted
from actors.races.restore import Found
from actors.races.restoring import AFTER_DOUBT_S, RETRY_S
from tests.kit.making import make_fix
from tests.races.race_world import World, world


@attrs.define
class Ears:
    """The relay's mailbox."""

    deaf: bool = False

    def show(self, race_id: str, frame: Frame) -> None: ...
    def read_again(self, race_id: str) -> None: ...


def counted(w: World) -> list[float]:
    """When the stores are asked again."""
    asked: list[float] = []
    restore = w.races.restore
    genuine = restore.again

    async def again(race_id: str, without: Collection[bytes], shown: Sequence[Fix]) -> Found:
        asked.append(trio.current_time())
        return await genuine(race_id, without, shown)

    restore.again = again  # type: ignore[method-assign]
    return asked


async def test_once_more_after_it_began_where_there_are_other_nodes(autojump_clock: MockClock) -> None:
    async with world(relay=Ears()) as w:
        asked = counted(w)
        w.route(make_fix())
        await trio.sleep(60)
        assert asked == [AFTER_DOUBT_S[-1]]


async def test_all_the_time_while_other_nodes_are_not_heard(autojump_clock: MockClock) -> None:
    ears = Ears(deaf=True)
    async with world(relay=ears) as w:
        asked = counted(w)
        w.route(make_fix())
        await trio.sleep(3 * RETRY_S)
        assert len(asked) >= 3
        ears.deaf = False
        w.races.states["R1"].mailbox.post(Doubted())
        asked.clear()
        began = trio.current_time()
        await trio.sleep(60)
        assert [moment - began for moment in asked] == list(AFTER_DOUBT_S)


async def test_a_doubt_while_it_waits_is_looked_into_at_once(autojump_clock: MockClock) -> None:
    async with world(relay=Ears(deaf=True)) as w:
        asked = counted(w)
        w.route(make_fix())
        await trio.sleep(2)
        asked.clear()
        w.races.states["R1"].mailbox.post(Doubted())
        await trio.sleep(0.1)
        assert len(asked) == 1
