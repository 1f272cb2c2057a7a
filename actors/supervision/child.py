"""Supervision: a child runs until it is told to stop; when it crashes it is run again, within its budget.

Policy is data (`ChildSpec`); the decision to wait or to give up is pure (supervision/restart.py). Only this module, the
accept loop of the listener, and the shortcut and the gatherer of races (which hand the crash to the race) may catch
`Exception`: a crash is a bug, and everything expected is a value elsewhere.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Protocol

import attrs
import structlog
import trio

from actors.supervision.restart import Budget, recent, wait_before_restart
from actors.telemetry.metrics import Metrics

log = structlog.get_logger("supervisor")


class Restart(Enum):
    """When a child is run again."""

    PERMANENT = "permanent"  # always: that it ends by itself is a crash too
    TRANSIENT = "transient"  # after a crash, not after a normal end
    TEMPORARY = "temporary"  # never


class State(Enum):
    """Of a child, as `status` shows it."""

    WAITING = "waiting"  # not started yet
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    PARKED = "parked"
    STOPPED = "stopped"


class Start(Protocol):
    """An actor's `run`: calls `task_status.started(value)` once it serves, then runs until cancelled."""

    def __call__(self, *, task_status: trio.TaskStatus[Any]) -> Awaitable[None]: ...


def _nothing(_crash: BaseException | None = None) -> None:
    """The default reaction to a crash: none beyond the restart."""


@attrs.frozen
class ChildSpec:
    """One row of the table: what runs, and what to do when it crashes."""

    name: str  # unique within the daemon
    kind: str  # the label in metrics: the kind of actor, never a race
    start: Start
    budget: Budget
    restart: Restart = Restart.PERMANENT
    first_start_must_succeed: bool = True  # a crash before the first started() is a failed boot: raise
    shutdown_s: float = 5.0  # cancelled after this long when asked to stop
    on_crash: Callable[[BaseException | None], None] = _nothing  # before the wait; may mark what was at fault
    on_spent: Callable[[], None] = lambda: None  # the budget is spent, so this child stays down; what else follows
    excused: Callable[[], bool] = lambda: False  # True: this crash does not count against the budget
    depth: Callable[[], int] = lambda: 0  # messages waiting in its mailbox
    handled: Callable[[], int] = lambda: 0  # messages done since the daemon started


@attrs.define(eq=False)
class Child:
    """A spec and what became of it. Read by `status`; written only by `keep_running`."""

    spec: ChildSpec
    state: State = State.WAITING
    restarts: int = 0
    crashes: deque[float] = attrs.field(factory=deque)  # trio's clock, seconds; only those inside the window
    last_crash: str = ""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def stop(self) -> None:
        """Cancel the child and wait until it has cleaned up; its clean-up has `shutdown_s` for that."""
        self.scope.cancel()
        with trio.move_on_after(self.spec.shutdown_s) as late:
            await self.ended.wait()
        if late.cancelled_caught:
            log.error("actor did not stop in time", actor=self.spec.name, shutdown_s=self.spec.shutdown_s)


@attrs.define(eq=False)
class _Status:
    """The `task_status` of all runs of a child. A nursery would have one too, and be a second task: a quarter of what
    Python's search for cycles looks at in a race."""

    child: Child
    first: trio.TaskStatus[object] | None  # of who waits for the first `started`

    def started(self, value: object = None) -> None:
        """By the actor, once it serves."""
        self.child.state = State.RUNNING
        self.tell(value)

    def tell(self, value: object = None) -> None:
        """Let who waits go on, the first time."""
        first, self.first = self.first, None
        if first is not None:
            first.started(value)


async def keep_running(
    child: Child, metrics: Metrics, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run the child, in this task, until it is stopped, ends for good, or spends its budget.

    `task_status.started(value)` passes on what the child's first `started(value)` gave.
    Raises what the first start raised when `first_start_must_succeed`.
    """
    spec, status = child.spec, _Status(child, task_status)
    restarts = metrics.actor_restarts.labels(actor=spec.kind)
    try:
        with child.scope:
            while True:
                child.state = State.STARTING
                crash: BaseException | None = None
                try:
                    await spec.start(task_status=status)
                    if child.state is State.STARTING:
                        raise RuntimeError("ended before it had started")
                except* Exception as group:
                    crash = group
                    if status.first is not None and spec.first_start_must_succeed:
                        raise
                status.tell()
                if spec.restart is Restart.TEMPORARY or (crash is None and spec.restart is Restart.TRANSIENT):
                    if crash is not None:
                        _note_crash(child, crash, metrics, counts=False)
                    return
                counts = not spec.excused()
                _note_crash(child, crash, metrics, counts=counts)
                wait_s = wait_before_restart(child.crashes, trio.current_time(), spec.budget, random.random())
                if wait_s is None:
                    child.state = State.PARKED
                    log.error("restart budget spent", actor=spec.name)
                    spec.on_spent()
                    await trio.sleep_forever()
                    raise AssertionError("unreachable")
                child.state = State.BACKING_OFF
                await trio.sleep(wait_s)
                child.restarts += 1
                restarts.inc()
    finally:
        if child.state is not State.PARKED:
            child.state = State.STOPPED
        child.ended.set()


def _note_crash(child: Child, crash: BaseException | None, metrics: Metrics, *, counts: bool) -> None:
    now = trio.current_time()
    if counts:
        child.crashes.append(now)
    child.crashes = deque(recent(child.crashes, now, child.spec.budget))
    child.last_crash = _one_line(crash) if crash is not None else "ended although it should run"
    log.error("actor crashed", actor=child.spec.name, why=child.last_crash, exc_info=crash)
    child.spec.on_crash(crash)


def _one_line(crash: BaseException) -> str:
    """The innermost exception of a group, on one line."""
    while isinstance(crash, BaseExceptionGroup) and crash.exceptions:
        crash = crash.exceptions[0]
    return f"{type(crash).__name__}: {crash}".replace("\n", " ")[:300]
