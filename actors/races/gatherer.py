"""Many ask for one thing each at about the same time: few questions about many things.

Who asks while questions are under way goes with the next one, so nobody waits for company. Questions are put in tasks
of their own: who is cancelled while it waits leaves, and nobody else notices. Nobody fails for another's sake: when a
question about many fails, it may be that the store is away, or that one of them is too slow or at fault. So it is asked
for one alone; when that is answered, for each of them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import attrs
import trio

from actors.core.errors import StoreMisconfigured, Unavailable

K = TypeVar("K", bound=Hashable)
A = TypeVar("A")

AWAY = (Unavailable, StoreMisconfigured)
"""Trouble of the store, so everybody's."""

AT_ONCE = 2
"""Questions about many under way, and as many about one thing: a slow one does not hold up all others."""

SLOW_MOST = 1000
"""So many that were slow alone are remembered."""


@attrs.define(eq=False)
class Ticket(Generic[K, A]):
    """Of one who waits."""

    key: K
    answer: A | None = None  # None until there is one, and when the store is away
    gone: bool = False  # nobody waits any more
    _crash: Exception | None = None
    _settled: trio.Event = attrs.field(factory=trio.Event)

    async def wait(self) -> A | None:
        """The answer; None when the store is away. Raises what nobody expects, when this alone was asked for."""
        await self._settled.wait()
        if self._crash is not None:
            raise self._crash
        return self.answer

    def settle(self, answer: A | None, crash: Exception | None = None) -> None:
        """Wake who waits."""
        self.answer, self._crash = answer, crash
        self._settled.set()


@attrs.define(eq=False)
class Gatherer(Generic[K, A]):
    """Of one kind of question to one store. Each raises what is in AWAY when that is away.

    `ask_many` answers by key: None, where this is too much to be asked for beside others. What it leaves out is asked
    for again, before what came later; at least one key it does not leave out.
    """

    ask_one: Callable[[K], Awaitable[A]]
    ask_many: Callable[[Sequence[K]], Awaitable[Mapping[K, A | None]]]
    most: int  # keys in one question
    patience_s: float  # with a question about many, before each is asked for alone
    give_up_s: float  # on a question about one
    _waiting: deque[Ticket[K, A]] = attrs.field(factory=deque)
    _alone: deque[Ticket[K, A]] = attrs.field(factory=deque)
    _slow: set[K] = attrs.field(factory=set)  # alone they took longer than patience_s, the last time
    _asking: int = 0
    _asking_alone: int = 0

    @contextmanager
    def asked(self, key: K) -> Iterator[Ticket[K, A]]:
        """For the block, in which to wait for it."""
        ticket: Ticket[K, A] = Ticket(key)
        if key in self._slow:
            self._put_alone(ticket)
        else:
            self._waiting.append(ticket)
            if self._asking < AT_ONCE:
                self._asking += 1
                trio.lowlevel.spawn_system_task(self._keep_asking)  # outlives whoever waits
        try:
            yield ticket
        finally:
            ticket.gone = True

    def _put_alone(self, ticket: Ticket[K, A]) -> None:
        self._alone.append(ticket)
        if self._asking_alone < AT_ONCE:
            self._asking_alone += 1
            trio.lowlevel.spawn_system_task(self._keep_asking_alone)

    async def _keep_asking(self) -> None:
        try:
            while tickets := self._take():
                trouble = await self._ask_many(tickets)
                if isinstance(trouble, AWAY):
                    await self._find_out(tickets, trouble)
                elif trouble is not None:
                    for ticket in tickets:
                        self._put_alone(ticket)
        finally:
            self._asking -= 1

    async def _keep_asking_alone(self) -> None:
        try:
            while self._alone:
                ticket = self._alone.popleft()
                if not ticket.gone:
                    await self._ask_one(ticket)
        finally:
            self._asking_alone -= 1

    def _take(self) -> list[Ticket[K, A]]:
        tickets: list[Ticket[K, A]] = []
        while self._waiting and len(tickets) < self.most:
            ticket = self._waiting.popleft()
            if not ticket.gone:
                tickets.append(ticket)
        return tickets

    async def _ask_many(self, tickets: list[Ticket[K, A]]) -> Exception | None:
        """Returns what went wrong."""
        keys = list(dict.fromkeys(ticket.key for ticket in tickets))
        try:
            with trio.fail_after(self.patience_s):
                answers = await self.ask_many(keys)
        except Exception as trouble:  # noqa: BLE001  # one key's perhaps, which is found by asking alone
            return trouble
        self._waiting.extendleft([ticket for ticket in reversed(tickets) if ticket.key not in answers])
        for ticket in tickets:
            if ticket.key in answers:
                answer = answers[ticket.key]
                if answer is None:
                    self._put_alone(ticket)
                else:
                    ticket.settle(answer)
        return None

    async def _ask_one(self, ticket: Ticket[K, A]) -> Exception | None:
        """Returns what went wrong, of which who waits is told."""
        began = trio.current_time()
        answer, trouble = None, None
        try:
            with trio.fail_after(self.give_up_s):
                answer = await self.ask_one(ticket.key)
        except Exception as error:  # noqa: BLE001  # raised by `wait`: a crash of who waits, not ours
            trouble = error
        if trio.current_time() - began < self.patience_s:
            self._slow.discard(ticket.key)
        elif len(self._slow) < SLOW_MOST:
            self._slow.add(ticket.key)
        ticket.settle(answer, None if isinstance(trouble, (*AWAY, trio.TooSlowError)) else trouble)
        return trouble

    async def _find_out(self, tickets: list[Ticket[K, A]], trouble: Exception | None) -> None:
        """Whether the store is away, or one of them at fault: by asking for anyone alone."""
        anyone, *others = random.sample(tickets, len(tickets))
        if others:
            trouble = await self._ask_one(anyone)
        else:
            anyone.settle(None)
        for ticket in others:
            if isinstance(trouble, AWAY):
                ticket.settle(None)
            else:
                self._put_alone(ticket)
