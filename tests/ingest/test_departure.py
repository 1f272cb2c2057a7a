"""Taking a node out: as long as something goes on, and not longer."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio
from trio.testing import MockClock

from actors.ingest.departure import Departed, Departure
from actors.ingest.leaving import Leaving
from actors.ingest.messages import Leave
from actors.ingest.state import ReaderState

PATIENCE_S = 15.0


@attrs.define(eq=False)
class Disk:
    rows: int = 0


@attrs.define(eq=False)
class Bench:
    """Stands for the reader and the spool."""

    state: ReaderState = attrs.field(factory=ReaderState)
    disk: Disk = attrs.field(factory=Disk)
    told: list[Leave] = attrs.field(factory=list)
    over: bool = False
    codes: list[int] = attrs.field(factory=list)  # that the daemon is to end with

    def departure(self, *, reads: bool = True, spool: bool = True) -> Departure:
        def tell(leave: Leave) -> None:
            self.told.append(leave)
            self.state.leaving = Leaving(trio.current_time(), leave.catch_up)

        return Departure(
            self.state,
            tell if reads else None,
            True,
            lambda: self.over,
            self.disk if spool else None,
            PATIENCE_S,
            self.codes.append,
        )

    async def each_s(self, seconds: int, do: Callable[[], None]) -> None:
        for _ in range(seconds):
            await trio.sleep(1)
            do()


async def test_as_long_as_messages_come(autojump_clock: MockClock) -> None:
    w = Bench()
    departure = w.departure()
    came: list[Departed] = []

    async def leave() -> None:
        came.append(await departure.run())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        nursery.start_soon(leave)  # who asks again gets the same
        await trio.testing.wait_all_tasks_blocked()
        leaving = w.state.leaving
        assert leaving is not None
        await w.each_s(100, lambda: leaving.took(2, trio.current_time()))
        leaving.left = w.over = True
    assert came == [Departed(left=True, drained=200, rows_in_spool=0)] * 2
    assert came[0].whole
    assert w.told == [Leave(catch_up=True)]


@pytest.mark.parametrize(
    ("over", "why", "said"),
    [(False, "", "nothing went on for 15 s"), (True, "", "stopped"), (True, "no way", "no way")],
)
async def test_nothing_goes_on(autojump_clock: MockClock, over: bool, why: str, said: str) -> None:
    w = Bench()
    departure = w.departure(spool=False)
    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            came = await departure.run()
            assert came == Departed(left=False, drained=0, rows_in_spool=0, why_not=said)
            assert not came.whole
            assert trio.current_time() < PATIENCE_S + 2

        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        assert w.state.leaving is not None
        w.state.leaving.why_not, w.over = why, over


async def test_rows_of_the_spool_are_waited_for(autojump_clock: MockClock) -> None:
    w = Bench(disk=Disk(100))

    def drain() -> None:
        w.disk.rows -= 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(w.each_s, 100, drain)
        came = await w.departure(reads=False).run()
    assert came == Departed(left=True, drained=0, rows_in_spool=0)
    assert w.told == []


async def test_rows_that_stay(autojump_clock: MockClock) -> None:
    w = Bench(disk=Disk(3))
    departure = w.departure(reads=False)
    came = await departure.run()
    assert came == Departed(left=True, drained=0, rows_in_spool=3)
    assert not came.whole
    async with departure.whole() as answer:
        assert answer == {"left": True, "drained": 0, "rows_in_spool": 3, "why_not": ""}
        assert w.codes == []  # first somebody is told
    assert w.codes == [1]


async def test_a_client_that_is_gone_ends_the_daemon_all_the_same(autojump_clock: MockClock) -> None:
    w = Bench()
    with pytest.raises(trio.BrokenResourceError):
        async with w.departure(reads=False).whole():
            raise trio.BrokenResourceError
    assert w.codes == [0]
