"""One life of the daemon in this process: signals, a guest beside it, word of what kept it from starting."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Awaitable, Callable

import structlog
import trio

from actors.core.errors import NotStarted
from actors.supervision.child import Start
from actors.supervision.tree import Tree

log = structlog.get_logger("supervisor")


def wall_clock_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000


async def live(
    run: Start,
    tree: Tree,
    abandon: Callable[[str], None],
    ready: Callable[[], None],
    beside: Callable[[], Awaitable[None]] | None,
) -> int:
    """`run` the tree until it ends; the exit code. `ready` is called once it serves, `beside` runs from then on.

    `abandon` gets the name of a signal that comes while the tree is stopping already, and ends this process at once.
    """
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_obey_signals, tree, abandon)

            async def run_tree(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
                await run(task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(run_tree)
            if not tree.stop_asked.is_set():
                ready()
            if beside is not None and not tree.stop_asked.is_set():
                async with trio.open_nursery() as guests:
                    guests.start_soon(beside)
                    await tree.stop_asked.wait()
                    guests.cancel_scope.cancel()
    except* NotStarted as failed:
        for line in _messages(failed):
            print(line, file=sys.stderr)
        tree.stop(1)
    return tree.exit_code


async def _obey_signals(
    tree: Tree, abandon: Callable[[str], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """SIGTERM and SIGINT drain, a second one ends at once; SIGHUP only says what it cannot do yet."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                log.warning("settings are read at the start only: restart the daemon to apply them", signal=name)
            elif tree.stop_asked.is_set():
                abandon(name)
            else:
                log.info("stopping", signal=name)
                tree.stop()


def _messages(group: BaseExceptionGroup[NotStarted]) -> list[str]:
    found: list[str] = []
    for inner in group.exceptions:
        found += _messages(inner) if isinstance(inner, BaseExceptionGroup) else [str(inner)]
    return found
