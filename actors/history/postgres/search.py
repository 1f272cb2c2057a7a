"""The first of several connections that will do: each is tried a moment after the one before it, and beside it.

As RFC 8305 has it for addresses: one server that hangs costs a moment, not a share of the deadline.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol, TypeAlias, TypeVar

import trio

from actors.core.errors import StoreMisconfigured, StoreUnavailable

HEAD_START_S = 0.25
"""Longer than a connection takes, also to another town."""

AGAIN_S = 1.0
"""While one hangs, those that failed are asked again as often: a standby may have been promoted in its place."""


class Session(Protocol):
    """A connection."""

    @property
    def takes_writes(self) -> bool:
        """No standby."""
        ...

    def close(self) -> None:
        """Never blocks."""
        ...


S = TypeVar("S", bound=Session)
Trouble: TypeAlias = StoreUnavailable | StoreMisconfigured


async def search(
    attempts: Mapping[str, Callable[[], Awaitable[S]]],
    deadline_s: float,
    is_set_up: Callable[[Iterable[bool]], bool],
) -> S:
    """The first that takes writes, or, where none does, one that takes none; the others are closed.

    `attempts` by name; each raises StoreUnavailable or StoreMisconfigured, and so does this when all have failed, with
    the words of all. `is_set_up`: whether it is the set-up that is at fault, as it is for these of them.
    """
    late = StoreUnavailable(f"PostgreSQL did not answer within {deadline_s:g} s")
    troubles: dict[str, Trouble] = {}
    with trio.move_on_after(deadline_s):
        if len(attempts) == 1:
            return await next(iter(attempts.values()))()
        found = await _first_of(attempts, troubles)
        if found is not None:
            return found
    told = {name: troubles.get(name, late) for name in attempts}
    if len(told) == 1:
        raise late
    text = "; ".join(f"{name}: {trouble}" for name, trouble in told.items())
    wrong = is_set_up(isinstance(trouble, StoreMisconfigured) for trouble in told.values())
    raise (StoreMisconfigured if wrong else StoreUnavailable)(text)


async def _first_of(attempts: Mapping[str, Callable[[], Awaitable[S]]], troubles: dict[str, Trouble]) -> S | None:
    """None when all have failed, for what is in `troubles` then."""
    todo = dict(attempts)
    unheard = set(attempts)
    found: S | None = None
    told, tell = trio.open_memory_channel[tuple[str, S | Trouble]](math.inf)[::-1]
    try:
        async with trio.open_nursery() as nursery:
            while unheard:
                if todo:
                    name = next(iter(todo))
                    nursery.start_soon(_try, name, todo.pop(name), tell)
                with trio.move_on_after(HEAD_START_S if todo or found else math.inf) as head_start:
                    name, result = await told.receive()
                if head_start.cancelled_caught:
                    if not todo:
                        break  # a standby has answered, and nobody else does
                    continue
                unheard.discard(name)
                if isinstance(result, StoreUnavailable | StoreMisconfigured):
                    troubles[name] = result
                    nursery.start_soon(_try, name, attempts[name], tell, AGAIN_S)
                    continue
                found, other = (result, found) if found is None or result.takes_writes else (found, result)
                if other is not None:
                    other.close()
                if found.takes_writes:
                    break
            nursery.cancel_scope.cancel()
    except BaseException:
        if found is not None:
            found.close()
        raise
    finally:
        _close_late_ones(told)
    return found


async def _try(
    name: str,
    attempt: Callable[[], Awaitable[S]],
    tell: trio.MemorySendChannel[tuple[str, S | Trouble]],
    after_s: float = 0.0,
) -> None:
    await trio.sleep(after_s)
    try:
        result: S | Trouble = await attempt()
    except (StoreUnavailable, StoreMisconfigured) as trouble:
        result = trouble
    tell.send_nowait((name, result))


def _close_late_ones(told: trio.MemoryReceiveChannel[tuple[str, S | Trouble]]) -> None:
    while True:
        try:
            _, result = told.receive_nowait()
        except trio.WouldBlock:
            return
        if not isinstance(result, StoreUnavailable | StoreMisconfigured):
            result.close()
