"""Few questions about many: everybody is answered, and nobody waits or fails for another's sake."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

import attrs
import pytest
import trio
from trio.testing import MockClock

from actors.core.errors import StoreUnavailable
from actors.races.gatherer import AT_ONCE, SLOW_MOST, Gatherer, Ticket

MOST, PATIENCE_S, GIVE_UP_S = 10, 2.5, 3.0


@attrs.define(eq=False)
class Store:
    """Answers n with -n after a second, as long as nothing is wrong."""

    asked: list[list[int]] = attrs.field(factory=list)
    large: frozenset[int] = frozenset()
    slow: frozenset[int] = frozenset()
    bad: dict[int, Exception] = attrs.field(factory=dict)
    at_once: int = 1 << 60  # keys that it looks for in one question
    trouble: Exception | None = None
    under_way: int = 0
    most_under_way: int = 0

    async def one(self, key: int) -> int:
        await self._ask([key])
        return -key

    async def many(self, keys: Sequence[int]) -> dict[int, int | None]:
        keys = keys[: self.at_once]
        await self._ask(keys)
        return {key: None if key in self.large else -key for key in keys}

    async def _ask(self, keys: Sequence[int]) -> None:
        self.asked.append(list(keys))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await trio.sleep(20 if self.slow.intersection(keys) else 1)
        finally:
            self.under_way -= 1
        for key in keys:
            if key in self.bad:
                raise self.bad[key]
        if self.trouble is not None:
            raise self.trouble


@attrs.define(eq=False)
class Crowd:
    """Who waits, and what became of it."""

    gatherer: Gatherer[int, int]
    answers: dict[int, int | None] = attrs.field(factory=dict)
    crashes: dict[int, Exception] = attrs.field(factory=dict)
    waited_s: dict[int, float] = attrs.field(factory=dict)

    async def ask(self, keys: Iterable[int], within_s: float = 1000) -> None:
        """All at once and in this order, until each is answered or all have had enough."""
        began = trio.current_time()

        async def wait(ticket: Ticket[int, int]) -> None:
            try:
                self.answers[ticket.key] = await ticket.wait()
            except RuntimeError as crash:
                self.crashes[ticket.key] = crash
            self.waited_s[ticket.key] = trio.current_time() - began

        with ExitStack() as stack, trio.move_on_after(within_s):
            async with trio.open_nursery() as nursery:
                for key in keys:
                    nursery.start_soon(wait, stack.enter_context(self.gatherer.asked(key)))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def crowd(store: Store) -> Crowd:
    return Crowd(Gatherer(store.one, store.many, MOST, PATIENCE_S, GIVE_UP_S))


async def test_who_asks_alone_does_not_wait_for_company(autojump_clock: MockClock, crowd: Crowd, store: Store) -> None:
    await crowd.ask([7])
    assert (crowd.answers, crowd.waited_s, store.asked) == ({7: -7}, {7: 1}, [[7]])


async def test_who_asks_at_the_same_time_goes_into_one_question(
    autojump_clock: MockClock, crowd: Crowd, store: Store
) -> None:
    await crowd.ask([1, 2, 3])
    await crowd.ask([4, 5])
    assert crowd.answers == {n: -n for n in range(1, 6)}
    assert store.asked == [[1, 2, 3], [4, 5]]


async def test_a_question_has_a_limit_and_so_have_those_under_way(
    autojump_clock: MockClock, crowd: Crowd, store: Store
) -> None:
    await crowd.ask(range(5 * MOST))
    assert crowd.answers == {n: -n for n in range(5 * MOST)}
    assert store.asked == [list(range(n, n + MOST)) for n in range(0, 5 * MOST, MOST)]
    assert store.most_under_way == AT_ONCE
    assert max(crowd.waited_s.values()) == 3


async def test_two_who_want_the_same_are_answered_by_one_question_that_was_put_after_both(
    autojump_clock: MockClock, crowd: Crowd, store: Store
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(crowd.ask, [7])
            await trio.sleep(0.25)
        nursery.start_soon(crowd.ask, [7])
        nursery.start_soon(crowd.ask, [7])
    assert store.asked == [[7]] * (AT_ONCE + 1)


async def test_what_was_left_out_is_asked_for_before_what_came_later(
    autojump_clock: MockClock, crowd: Crowd, store: Store
) -> None:
    store.at_once = 1
    async with trio.open_nursery() as nursery:
        for n in range(AT_ONCE + 1):
            nursery.start_soon(crowd.ask, range(n * MOST, (n + 1) * MOST))
            await trio.sleep(0.3)
    assert crowd.answers == {n: -n for n in range((AT_ONCE + 1) * MOST)}
    first = AT_ONCE * MOST  # these went into questions when they came, the last ones had to wait
    assert {key for keys in store.asked[:first] for key in keys} == set(range(first))
    assert len(store.asked) == first + MOST


async def test_what_is_too_much_beside_others_is_asked_for_alone(
    autojump_clock: MockClock, crowd: Crowd, store: Store
) -> None:
    store.large = frozenset({3, 4})
    await crowd.ask(range(MOST))
    assert crowd.answers == {n: -n for n in range(MOST)}
    assert store.asked[1:] == [[3], [4]]
    assert {n for n, waited_s in crowd.waited_s.items() if waited_s > 1} == {3, 4}


async def test_who_leaves_is_not_asked_for_and_nobody_else_notices(
    autojump_clock: MockClock, crowd: Crowd, store: Store
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.ask, range(AT_ONCE * MOST))
        await trio.sleep(0.1)
        nursery.start_soon(crowd.ask, [50, 51])
        await crowd.ask([0, 60, 61], 0.5)
    assert crowd.answers == {n: -n for n in [*range(AT_ONCE * MOST), 50, 51]}
    assert store.asked[-1] == [50, 51]


async def test_one_that_leaves_in_mid_question_does_not_end_it(autojump_clock: MockClock, crowd: Crowd) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.ask, [1], 0.5)  # it was the first, for whom the question was put
        nursery.start_soon(crowd.ask, [2])
    assert crowd.answers == {2: -2}
    assert crowd.waited_s[2] == 1


async def test_while_the_store_is_away_few_ask_for_all(autojump_clock: MockClock, crowd: Crowd, store: Store) -> None:
    store.trouble = StoreUnavailable("refused")
    await crowd.ask(range(MOST))
    assert crowd.answers == dict.fromkeys(range(MOST))
    assert [len(keys) for keys in store.asked] == [MOST, 1]
    await crowd.ask([77])
    assert store.asked[2:] == [[77]]
    store.trouble = None
    await crowd.ask([77])
    assert crowd.answers[77] == -77


async def test_a_store_that_does_not_answer_is_asked_by_few_at_a_time(
    autojump_clock: MockClock, crowd: Crowd, store: Store
) -> None:
    store.slow = frozenset(range(1000))
    await crowd.ask(range(5 * MOST), GIVE_UP_S)
    assert crowd.answers == {}
    await trio.sleep(10)
    assert len(store.asked) <= 3 * AT_ONCE
    store.slow = frozenset()
    await crowd.ask(range(5 * MOST))
    assert crowd.answers == {n: -n for n in range(5 * MOST)}
    assert len(store.asked) <= 3 * AT_ONCE + 5 + 2 * AT_ONCE


@pytest.mark.parametrize("trouble", [StoreUnavailable("page is damaged"), RuntimeError("no such status")])
async def test_one_that_is_at_fault_is_found(
    autojump_clock: MockClock, crowd: Crowd, store: Store, trouble: Exception
) -> None:
    store.bad = {0: trouble}
    good = {n: -n for n in range(1, MOST)}
    for _ in range(100):  # whom it asks for alone is left to chance
        await crowd.ask(range(MOST))
        if {n: crowd.answers[n] for n in good} == good:
            break
    else:
        raise AssertionError(crowd.answers)
    assert crowd.answers.get(0) is None
    assert crowd.crashes == ({} if isinstance(trouble, StoreUnavailable) else {0: trouble})


async def test_a_slow_one_is_found_and_from_then_on_asked_for_alone(
    autojump_clock: MockClock, crowd: Crowd, store: Store
) -> None:
    store.slow = frozenset({3})
    await crowd.ask(range(MOST))
    assert crowd.answers == {n: None if n == 3 else -n for n in range(MOST)}
    store.asked.clear()
    await crowd.ask(range(MOST))
    assert {n: waited_s for n, waited_s in crowd.waited_s.items() if waited_s > 1} == {3: GIVE_UP_S}
    assert sorted(map(len, store.asked)) == [1, MOST - 1]
    store.slow = frozenset()
    await crowd.ask([3])
    store.asked.clear()
    await crowd.ask(range(MOST))
    assert list(map(len, store.asked)) == [MOST]


async def test_slow_ones_hold_up_the_next_for_no_longer_than_the_patience_lasts(
    autojump_clock: MockClock, crowd: Crowd, store: Store
) -> None:
    store.slow = frozenset(range(AT_ONCE * MOST))
    await crowd.ask(range((AT_ONCE + 1) * MOST), PATIENCE_S + 1.1)
    assert crowd.waited_s == dict.fromkeys(range(AT_ONCE * MOST, (AT_ONCE + 1) * MOST), PATIENCE_S + 1)


async def test_of_slow_ones_a_limited_number_is_remembered(store: Store, autojump_clock: MockClock) -> None:
    gatherer = Gatherer(store.one, store.many, MOST, 0.5, 0.8)
    crowd = Crowd(gatherer)
    await crowd.ask(range(SLOW_MOST + MOST))
    store.asked.clear()
    await crowd.ask(range(SLOW_MOST + MOST))
    assert len([keys for keys in store.asked if len(keys) > 1]) == 1
