"""One life of the daemon: its children, signals, the guest beside it."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from actors.core.errors import NotStarted
from actors.supervision.child import Start, State
from actors.supervision.restart import Budget
from actors.supervision.serving import live
from actors.supervision.tree import Tree
from actors.telemetry.metrics import Metrics


def new_tree() -> Tree:
    return Tree(Budget(0, 1, 0, 0), Metrics())


def actor(name: str, events: list[str], fails: bool = False) -> Start:
    async def run(*, task_status: trio.TaskStatus[str]) -> None:
        await trio.lowlevel.checkpoint()
        if fails:
            raise NotStarted(f"{name} cannot")
        events.append(f"{name} up")
        task_status.started(name)
        try:
            await trio.sleep_forever()
        finally:
            events.append(f"{name} down")

    return run


async def test_children_end_in_reverse_order() -> None:
    tree, events = new_tree(), list[str]()
    async with tree.open() as start:
        assert await start(tree.spec("sink", actor("sink", events))) == "sink"
        await start(tree.spec("source", actor("source", events)))
    assert events == ["sink up", "source up", "source down", "sink down"]
    assert [child.state for child in tree.children] == [State.STOPPED] * 2


async def test_one_opened_within_ends_first() -> None:
    tree, events = new_tree(), list[str]()
    async with tree.open() as start:
        await start(tree.spec("server", actor("server", events)))
        async with tree.open() as start_inner:
            await start_inner(tree.spec("sink", actor("sink", events)))
        events.append("closed")
    assert events == ["server up", "sink up", "sink down", "closed", "server down"]


async def test_what_has_started_before_a_failed_start_ends() -> None:
    tree, events = new_tree(), list[str]()
    with pytest.RaisesGroup(NotStarted, flatten_subgroups=True):
        async with tree.open() as start:
            await start(tree.spec("sink", actor("sink", events)))
            await start(tree.spec("source", actor("source", events, fails=True)))
    assert events == ["sink up", "sink down"]


def test_the_worst_exit_code_counts() -> None:
    tree = new_tree()
    for code in (0, 1, 0):
        tree.stop(code)
    assert tree.exit_code == 1


async def lived(tree: Tree, run: Start, events: list[str], beside: Callable[[], Awaitable[None]] | None = None) -> int:
    with trio.fail_after(30):
        return await live(
            run, tree, lambda name: events.append(f"abandoned by {name}"), lambda: events.append("ready"), beside
        )


async def test_no_guest_when_it_was_stopped_while_starting() -> None:
    tree, events = new_tree(), list[str]()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.lowlevel.checkpoint()
        tree.stop()
        task_status.started()

    async def beside() -> None:
        events.append("the link")

    assert await lived(tree, run, events, beside) == 0
    assert events == []


async def test_signals_and_the_guest() -> None:
    """SIGHUP does nothing, the first SIGTERM drains and ends the guest, the second one abandons."""
    tree, events = new_tree(), list[str]()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await tree.stop_asked.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        while events[-1] != "abandoned by SIGTERM":
            await trio.lowlevel.checkpoint()

    async def beside() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked()
        assert not tree.stop_asked.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await trio.sleep_forever()
        finally:
            events.append("guest ended")

    assert await lived(tree, run, events, beside) == 0
    assert events == ["ready", "guest ended", "abandoned by SIGTERM"]


async def test_what_keeps_it_from_starting_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    tree, events = new_tree(), list[str]()
    assert await lived(tree, actor("port", events, fails=True), events) == 1
    assert capsys.readouterr().err == "port cannot\n"
    assert events == []
