"""The shortcut of a race: who does a message, and that it changes nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.parcel import Parcel
from actors.races.mailbox import Mailbox
from actors.races.messages import FixesArrived, RaceMessage
from actors.races.shortcut import Shortcut
from tests.kit.making import make_fix
from tests.races.race_world import world

numbers = count(1)


@pytest.fixture
def shortcut() -> Iterator[Shortcut]:
    made = Shortcut(Mailbox())
    yield made
    assert not made.mailbox


def message() -> FixesArrived:
    return FixesArrived(Parcel((next(numbers), 0), "R1", ()), 0.0)


def give(shortcut: Shortcut, each: RaceMessage) -> bool:
    """As the directory does; whether it was done at once."""
    done = shortcut.hand(each)
    if not done:
        shortcut.mailbox.post(each)
    return done


class Waiter:
    """As a race: a task that does messages, and tells which, in whose turn, and how often it woke up."""

    def __init__(self, shortcut: Shortcut, crashes_at: object = None) -> None:
        self.shortcut, self.crashes_at = shortcut, crashes_at
        self.waits = trio.CancelScope()
        self.done: list[object] = []
        self.turns: list[str] = []
        self.woken = 0

    def do(self, message: object) -> None:
        self.done.append(message)
        self.turns.append(trio.lowlevel.current_task().name)
        if message is self.crashes_at:
            raise ZeroDivisionError

    async def run(self) -> None:
        mailbox = self.shortcut.mailbox
        with self.shortcut.open(self.do, self.waits), self.waits:
            while True:
                await mailbox.wait()
                self.woken += 1
                while (waiting := mailbox.take()) is not None:
                    self.do(waiting)


async def test_one_that_waits_does_it_in_the_turn_of_whoever_hands_it_over(
    shortcut: Shortcut, nursery: trio.Nursery
) -> None:
    waiter, sent = Waiter(shortcut), [message() for _ in range(3)]
    nursery.start_soon(waiter.run)
    await wait_all_tasks_blocked()
    for each in sent:
        assert give(shortcut, each)
    assert waiter.done == sent
    assert set(waiter.turns) == {trio.lowlevel.current_task().name}
    await wait_all_tasks_blocked()
    assert waiter.woken == 0


async def test_what_is_handed_over_waits_behind_what_was_posted(shortcut: Shortcut, nursery: trio.Nursery) -> None:
    waiter, sent = Waiter(shortcut), [message() for _ in range(4)]
    assert not give(shortcut, sent[0])  # nobody is there yet
    nursery.start_soon(waiter.run)
    await wait_all_tasks_blocked()
    shortcut.mailbox.post(sent[1])
    assert not give(shortcut, sent[2])
    assert waiter.done == sent[:1]
    await wait_all_tasks_blocked()
    assert give(shortcut, sent[3])
    assert waiter.done == sent


async def test_a_crash_is_that_of_the_one_who_waits(shortcut: Shortcut, nursery: trio.Nursery) -> None:
    bad, later = message(), message()
    waiter = Waiter(shortcut, crashes_at=bad)

    async def crash() -> None:
        with pytest.raises(ZeroDivisionError):
            await waiter.run()

    nursery.start_soon(crash)
    await wait_all_tasks_blocked()
    assert give(shortcut, bad)
    assert not give(shortcut, later)  # it is awake, with the crash
    assert waiter.done == [bad]
    await wait_all_tasks_blocked()
    assert shortcut.mailbox.take_all() == [later]


async def test_a_crash_is_not_told_to_the_next_one(shortcut: Shortcut, nursery: trio.Nursery) -> None:
    """Of one that was cancelled at the same moment: what it had in hand is done again anyway."""
    bad = message()
    with trio.CancelScope() as scope:
        waiter = Waiter(shortcut, crashes_at=bad)

        async def give_and_cancel() -> None:
            await wait_all_tasks_blocked()
            assert give(shortcut, bad)
            scope.cancel()

        nursery.start_soon(give_and_cancel)
        await waiter.run()
    assert scope.cancelled_caught
    second = Waiter(shortcut)
    nursery.start_soon(second.run)
    await wait_all_tasks_blocked()
    assert give(shortcut, bad)
    second.waits.cancel()
    await wait_all_tasks_blocked()


async def test_a_message_that_comes_out_of_another_is_not_done_within_it(
    shortcut: Shortcut, nursery: trio.Nursery
) -> None:
    first, second = message(), message()
    waiter = Waiter(shortcut)
    do = waiter.do

    def with_another(each: object) -> None:
        if each is first:
            assert not give(shortcut, second)
            assert waiter.done == []
        do(each)

    waiter.do = with_another  # type: ignore[method-assign,assignment]
    nursery.start_soon(waiter.run)
    await wait_all_tasks_blocked()
    assert give(shortcut, first)
    assert waiter.done == [first]
    await wait_all_tasks_blocked()
    assert waiter.done == [first, second]


async def test_one_that_was_cancelled_does_until_it_has_run_what_is_handed_over(
    shortcut: Shortcut, autojump_clock: MockClock
) -> None:
    """Once each: it is done, or in the mailbox."""
    waiter, sent = Waiter(shortcut), [message() for _ in range(4)]
    async with trio.open_nursery() as nursery:

        def do(each: object) -> None:
            waiter.done.append(each)
            nursery.cancel_scope.cancel()

        waiter.do = do  # type: ignore[method-assign,assignment]
        nursery.start_soon(waiter.run)
        await wait_all_tasks_blocked()
        assert give(shortcut, sent[0])
        assert give(shortcut, sent[1])
        shortcut.mailbox.post(sent[2])
        assert not give(shortcut, sent[3])
    assert waiter.done == sent[:2]
    assert shortcut.mailbox.take_all() == sent[2:]


async def test_one_that_has_ended_does_no_more(shortcut: Shortcut, nursery: trio.Nursery) -> None:
    waiter, late = Waiter(shortcut), message()
    nursery.start_soon(waiter.run)
    await wait_all_tasks_blocked()
    waiter.waits.cancel()
    await wait_all_tasks_blocked()
    nursery.start_soon(shortcut.mailbox.wait)
    await wait_all_tasks_blocked()
    assert shortcut.mailbox.race_waits
    assert not give(shortcut, late)
    assert waiter.done == []
    assert shortcut.mailbox.take_all() == [late]


async def test_a_fix_for_a_race_that_waits_is_done_in_the_turn_of_the_reader(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.route(make_fix(at_s=0))
        await wait_all_tasks_blocked()
        w.handed_over()
        fix = make_fix(at_s=1)
        w.route(fix)
        assert [parcel.fixes for parcel in w.handed_over()] == [(fix,)]
        assert w.all_live() == [fix]
