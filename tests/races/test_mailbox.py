"""The mailbox of a race: order, and who does a message."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.parcel import Parcel
from actors.races.mailbox import Mailbox
from actors.races.messages import FixesArrived

numbers = count(1)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    assert not made


def message() -> FixesArrived:
    return FixesArrived(Parcel((next(numbers), 0), "R1", ()), 0.0)


def give(mailbox: Mailbox, each: FixesArrived) -> bool:
    """As the directory does; whether it was done at once."""
    done = mailbox.hand(each)
    if not done:
        mailbox.post(each)
    return done


class Sleeper:
    """A task that does messages, and tells which, in whose turn, and how often it woke up."""

    def __init__(self, mailbox: Mailbox, crashes_at: object = None, ends_at: object = None) -> None:
        self.mailbox, self.crashes_at, self.ends_at = mailbox, crashes_at, ends_at
        self.done: list[object] = []
        self.turns: list[str] = []
        self.woken = 0

    def do(self, message: object) -> bool:
        self.done.append(message)
        self.turns.append(trio.lowlevel.current_task().name)
        if message is self.crashes_at:
            raise ZeroDivisionError
        return message is not self.ends_at

    async def run(self) -> None:
        while True:
            await self.mailbox.sleep(self.do)
            self.woken += 1
            while (waiting := self.mailbox.take()) is not None:
                self.do(waiting)


async def test_one_that_sleeps_does_it_in_the_turn_of_whoever_hands_it_over(
    mailbox: Mailbox, nursery: trio.Nursery
) -> None:
    sleeper, sent = Sleeper(mailbox), [message() for _ in range(3)]
    nursery.start_soon(sleeper.run)
    await wait_all_tasks_blocked()
    for each in sent:
        assert give(mailbox, each)
    assert sleeper.done == sent
    assert set(sleeper.turns) == {trio.lowlevel.current_task().name}
    await wait_all_tasks_blocked()
    assert sleeper.woken == 0


async def test_what_is_handed_over_waits_behind_what_was_posted(mailbox: Mailbox, nursery: trio.Nursery) -> None:
    sleeper, sent = Sleeper(mailbox), [message() for _ in range(4)]
    assert not give(mailbox, sent[0])  # nobody is there yet
    nursery.start_soon(sleeper.run)
    await wait_all_tasks_blocked()
    mailbox.post(sent[1])
    assert not give(mailbox, sent[2])
    assert sleeper.done == sent[:1]
    await wait_all_tasks_blocked()
    assert give(mailbox, sent[3])
    assert sleeper.done == sent


async def test_a_crash_is_that_of_the_one_who_sleeps(mailbox: Mailbox, nursery: trio.Nursery) -> None:
    bad, waits = message(), message()
    sleeper = Sleeper(mailbox, crashes_at=bad)

    async def crash() -> None:
        with pytest.raises(ZeroDivisionError):
            await sleeper.run()

    nursery.start_soon(crash)
    await wait_all_tasks_blocked()
    assert give(mailbox, bad)
    assert not give(mailbox, waits)  # it is awake, with the crash
    assert sleeper.done == [bad]
    await wait_all_tasks_blocked()
    assert mailbox.take_all() == [waits]


async def test_one_that_has_to_look_up_is_woken(mailbox: Mailbox, nursery: trio.Nursery) -> None:
    last = message()
    sleeper = Sleeper(mailbox, ends_at=last)
    nursery.start_soon(sleeper.run)
    await wait_all_tasks_blocked()
    assert give(mailbox, last)
    await wait_all_tasks_blocked()
    assert sleeper.woken == 1


async def test_a_message_that_comes_out_of_another_is_not_done_within_it(
    mailbox: Mailbox, nursery: trio.Nursery
) -> None:
    first, second = message(), message()
    sleeper = Sleeper(mailbox)
    do = sleeper.do

    def with_another(each: object) -> bool:
        if each is first:
            assert not give(mailbox, second)
            assert sleeper.done == []
        return do(each)

    sleeper.do = with_another  # type: ignore[method-assign,assignment]
    nursery.start_soon(sleeper.run)
    await wait_all_tasks_blocked()
    assert give(mailbox, first)
    assert sleeper.done == [first]
    await wait_all_tasks_blocked()
    assert sleeper.done == [first, second]


async def test_nothing_is_done_by_one_that_is_being_cancelled(mailbox: Mailbox, autojump_clock: MockClock) -> None:
    sleeper, late = Sleeper(mailbox), message()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        assert not give(mailbox, late)
    assert sleeper.done == []
    assert mailbox.take_all() == [late]


async def test_one_that_was_cancelled_by_what_it_did_does_no_more(mailbox: Mailbox, autojump_clock: MockClock) -> None:
    fatal, late = message(), message()
    done: list[object] = []
    async with trio.open_nursery() as nursery:

        def do(each: object) -> bool:
            done.append(each)
            nursery.cancel_scope.cancel()
            return True

        nursery.start_soon(mailbox.sleep, do)
        await wait_all_tasks_blocked()
        assert give(mailbox, fatal)
        assert not give(mailbox, late)
    assert done == [fatal]
    assert mailbox.take_all() == [late]
