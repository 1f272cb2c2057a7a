"""The mailbox of a race: order, and that a message is in it until it is taken, whatever becomes of the race."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.core.parcel import Parcel
from actors.races.mailbox import Mailbox
from actors.races.messages import FixesArrived, RaceMessage

numbers = count(1)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    assert not made


def message() -> FixesArrived:
    return FixesArrived(Parcel((next(numbers), 0), "R1", ()), 0.0)


class Taker:
    """As a race: a task that takes messages."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.taken: list[RaceMessage] = []
        self.scope = trio.CancelScope()
        self.takes = True

    async def run(self) -> None:
        with self.scope:
            while True:
                await self.mailbox.wait()
                while self.takes and (each := self.mailbox.take()) is not None:
                    self.taken.append(each)
                await trio.lowlevel.checkpoint()


async def waiting(mailbox: Mailbox, nursery: trio.Nursery) -> Taker:
    taker = Taker(mailbox)
    nursery.start_soon(taker.run)
    await wait_all_tasks_blocked()
    assert mailbox.race_waits
    return taker


async def test_messages_come_in_the_order_in_which_they_were_posted(mailbox: Mailbox, nursery: trio.Nursery) -> None:
    sent = [message() for _ in range(5)]
    for each in sent[:2]:  # before anybody waits
        mailbox.post(each)
    taker = await waiting(mailbox, nursery)
    for each in sent[2:]:  # the first is given to the one who waits, the others follow
        mailbox.post(each)
    assert len(mailbox) == 3
    assert not mailbox.race_waits
    await wait_all_tasks_blocked()
    assert taker.taken == sent


async def test_cancelled_in_the_turn_in_which_it_was_sent_a_message_is_taken(
    mailbox: Mailbox, nursery: trio.Nursery
) -> None:
    """trio hands over what it gave to a task that waited, also when that was cancelled before it ran."""
    taker, sent = await waiting(mailbox, nursery), message()
    mailbox.post(sent)
    taker.scope.cancel()
    await wait_all_tasks_blocked()
    assert taker.scope.cancelled_caught
    assert taker.taken == [sent]


async def test_sent_in_the_turn_in_which_the_race_was_cancelled_a_message_stays(
    mailbox: Mailbox, nursery: trio.Nursery
) -> None:
    taker, sent = await waiting(mailbox, nursery), message()
    taker.scope.cancel()
    mailbox.post(sent)
    await wait_all_tasks_blocked()
    assert taker.taken == []
    assert (await waiting(mailbox, nursery)).taken == [sent]


async def test_nobody_waits_after_it_was_cancelled_and_has_run(mailbox: Mailbox, nursery: trio.Nursery) -> None:
    taker = await waiting(mailbox, nursery)
    taker.scope.cancel()
    await wait_all_tasks_blocked()
    assert not mailbox.race_waits


async def test_sent_at_the_moment_at_which_time_is_up_a_message_is_taken_once(
    mailbox: Mailbox, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    taker, sent = await waiting(mailbox, nursery), message()
    taker.scope.deadline = 1.0
    mock_clock.jump(2.0)
    mailbox.post(sent)  # trio has not looked at its deadlines yet
    await wait_all_tasks_blocked()
    assert taker.scope.cancelled_caught
    assert [*taker.taken, *mailbox.take_all()] == [sent]


async def test_what_was_given_and_not_taken_yet_is_there_for_others(mailbox: Mailbox, nursery: trio.Nursery) -> None:
    """For the directory when it evicts a race: the channel knows nothing of it any more."""
    taker, sent = await waiting(mailbox, nursery), [message(), message()]
    for each in sent:
        mailbox.post(each)
    taker.scope.cancel()
    assert mailbox.take_all() == sent
    await wait_all_tasks_blocked()
    assert taker.scope.cancelled_caught
    assert taker.taken == []


async def test_what_was_given_and_left_is_the_first_for_the_next_one(mailbox: Mailbox, nursery: trio.Nursery) -> None:
    """The race may be down by then, or have to read the stores first."""
    first, sent = await waiting(mailbox, nursery), [message(), message()]
    first.takes = False
    for each in sent:
        mailbox.post(each)
    for _ in range(5):
        await trio.lowlevel.checkpoint()
    first.scope.cancel()
    await wait_all_tasks_blocked()
    assert first.taken == []
    assert (await waiting(mailbox, nursery)).taken == sent
