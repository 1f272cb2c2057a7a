"""The first of several connections that will do."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from trio.testing import MockClock

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.postgres.search import AGAIN_S, HEAD_START_S, search


@attrs.define(eq=False)
class FakeSession:
    name: str
    takes_writes: bool = True
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@attrs.define(eq=False)
class Servers:
    """Each says something after a while; what was opened is kept."""

    opened: list[FakeSession] = attrs.field(factory=list)
    tried: list[str] = attrs.field(factory=list)

    def named(
        self, **servers: tuple[float, str | StoreUnavailable | StoreMisconfigured]
    ) -> dict[str, Callable[[], Awaitable[FakeSession]]]:
        """After so many seconds: `primary`, `standby`, or trouble."""

        def attempt(name: str) -> Callable[[], Awaitable[FakeSession]]:
            async def connect() -> FakeSession:
                self.tried.append(name)
                late_s, what = servers[name]
                await trio.sleep(late_s)
                if not isinstance(what, str):
                    raise what
                self.opened.append(FakeSession(name, what == "primary"))
                return self.opened[-1]

            return connect

        return {name: attempt(name) for name in servers}

    def only_open(self) -> str:
        (one,) = [session.name for session in self.opened if not session.closed]
        return one


REFUSED, WRONG = StoreUnavailable("refused"), StoreMisconfigured("no such database")
SOON, LATER, NEVER = 0.01, 0.2, math.inf


@pytest.mark.parametrize(
    ("servers", "found", "after_s", "tried"),
    [
        ({"a": (SOON, "primary"), "b": (SOON, "primary")}, "a", SOON, "a"),
        ({"a": (SOON, REFUSED), "b": (SOON, "primary")}, "b", 2 * SOON, "ab"),
        ({"a": (SOON, WRONG), "b": (SOON, "primary")}, "b", 2 * SOON, "ab"),
        ({"a": (NEVER, ""), "b": (SOON, "primary")}, "b", HEAD_START_S + SOON, "ab"),
        ({"a": (SOON, "standby"), "b": (SOON, "primary")}, "b", 2 * SOON, "ab"),
        ({"a": (SOON, "primary"), "b": (SOON, "standby")}, "a", SOON, "a"),
        ({"a": (SOON, "standby"), "b": (SOON, "standby")}, "a", 2 * SOON, "ab"),
        ({"a": (NEVER, ""), "b": (SOON, "standby")}, "b", 2 * HEAD_START_S + SOON, "ab"),
        ({"a": (SOON, "standby"), "b": (SOON, REFUSED)}, "a", 2 * SOON, "ab"),
        ({"a": (HEAD_START_S + LATER, "primary"), "b": (SOON, "standby")}, "a", HEAD_START_S + LATER, "ab"),
        ({"a": (NEVER, ""), "b": (NEVER, ""), "c": (SOON, "primary")}, "c", 2 * HEAD_START_S + SOON, "abc"),
        ({"a": (NEVER, "primary")}, "", 5.0, "a"),
        ({"a": (SOON, REFUSED), "b": (NEVER, "primary")}, "", 5.0, "abaaaa"),
    ],
)  # fmt: skip
async def test_which_and_when(
    autojump_clock: MockClock,
    servers: dict[str, tuple[float, str | StoreUnavailable | StoreMisconfigured]],
    found: str,
    after_s: float,
    tried: str,
) -> None:
    world, began = Servers(), trio.current_time()
    if found:
        assert (await search(world.named(**servers), 5.0, all)).name == world.only_open() == found
    else:
        with pytest.raises(StoreUnavailable, match="PostgreSQL did not answer within 5 s"):
            await search(world.named(**servers), 5.0, all)
    assert trio.current_time() - began == pytest.approx(after_s)
    assert "".join(world.tried) == tried


async def test_who_failed_is_asked_again_while_another_one_hangs(autojump_clock: MockClock) -> None:
    """As a standby that is promoted in the place of a primary that froze."""
    world = Servers()
    servers = world.named(standby=(SOON, REFUSED), frozen=(NEVER, ""), third=(SOON, WRONG))
    promoted = world.named(promoted=(SOON, "primary"))["promoted"]

    async def standby() -> FakeSession:
        return await (promoted if trio.current_time() > began + 3 else servers["standby"])()

    began = trio.current_time()
    found = await search({**servers, "standby": standby}, 10.0, all)
    assert found.name == world.only_open() == "promoted"
    assert 3 < trio.current_time() - began < 3 + AGAIN_S + 2 * SOON
    assert world.tried.count("frozen") == 1


async def test_two_at_the_same_time_are_not_both_kept(autojump_clock: MockClock) -> None:
    world = Servers()
    both = world.named(a=(HEAD_START_S + SOON, "primary"), b=(SOON, "primary"))
    assert (await search(both, 5.0, all)).name == world.only_open()
    assert len(world.opened) == 2


async def test_who_fails_in_the_same_moment_is_not_heard(autojump_clock: MockClock) -> None:
    for _ in range(20):  # in either order
        world = Servers()
        both = world.named(a=(HEAD_START_S + SOON, "primary"), b=(SOON, REFUSED))
        assert (await search(both, 5.0, all)).name == world.only_open() == "a"


@pytest.mark.parametrize("late_s", [SOON, HEAD_START_S + LATER])
async def test_a_caller_that_gives_up_leaves_nothing_open(autojump_clock: MockClock, late_s: float) -> None:
    world = Servers()
    with trio.move_on_after(HEAD_START_S + 2 * SOON):
        await search(world.named(a=(NEVER, ""), b=(SOON, "standby"), c=(late_s, "standby")), 5.0, all)
    assert [session.closed for session in world.opened] == [True] * len(world.opened)
    assert world.opened


@pytest.mark.parametrize(
    ("troubles", "is_set_up", "kind"),
    [
        ((REFUSED, WRONG), all, StoreUnavailable), ((REFUSED, WRONG), any, StoreMisconfigured),
        ((WRONG, WRONG), all, StoreMisconfigured), ((REFUSED, REFUSED), any, StoreUnavailable),
    ],
)  # fmt: skip
async def test_what_all_say_is_told(
    autojump_clock: MockClock,
    troubles: tuple[StoreUnavailable | StoreMisconfigured, ...],
    is_set_up: Callable[..., bool],
    kind: type[Exception],
) -> None:
    a, b = troubles
    with pytest.raises((StoreUnavailable, StoreMisconfigured)) as caught:
        await search(Servers().named(a=(SOON, a), b=(SOON, b)), 5.0, is_set_up)
    assert type(caught.value) is kind
    assert str(caught.value) == f"a: {a}; b: {b}"
