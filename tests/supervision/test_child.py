"""The supervisor: a grid of restart kind by how the child ends, then escalation, parking, stop, failed boots."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.supervision.child import Child, ChildSpec, Restart, State, keep_running
from actors.supervision.restart import Budget
from actors.telemetry.metrics import Metrics

BUDGET = Budget(max_restarts=2, window_s=10, backoff_initial_s=1, backoff_max_s=4)


class Actor:
    """Ends each of its first runs as its script says, then runs on."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.started_at: list[float] = []
        self.cleaned = 0

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        self.started_at.append(trio.current_time())
        step = self.script.pop(0) if self.script else "stay"
        if step == "crash before started":
            raise ValueError(step)
        task_status.started(len(self.started_at))
        try:
            if step == "crash":
                await trio.lowlevel.checkpoint()
                raise ValueError("crash")
            if step == "end":
                return
            await trio.sleep_forever()
        finally:
            self.cleaned += 1


def child_of(actor: Actor, **more: Any) -> Child:
    return Child(ChildSpec("thing", "kind", actor.run, BUDGET, **more))


async def run_for(child: Child, seconds: float, check: Callable[[], Awaitable[None]] | None = None) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_running, child, Metrics())
        await trio.sleep(seconds)
        if check is not None:
            await check()
        await child.stop()


@pytest.mark.parametrize(
    ("restart", "ending", "runs"),
    [
        (Restart.PERMANENT, "end", 2),
        (Restart.PERMANENT, "crash", 2),
        (Restart.TRANSIENT, "end", 1),
        (Restart.TRANSIENT, "crash", 2),
        (Restart.TEMPORARY, "end", 1),
        (Restart.TEMPORARY, "crash", 1),
        (Restart.PERMANENT, "stay", 1),
        (Restart.TRANSIENT, "stay", 1),
        (Restart.TEMPORARY, "stay", 1),
    ],
)
async def test_grid(autojump_clock: MockClock, restart: Restart, ending: str, runs: int) -> None:
    actor = Actor(ending)
    child = child_of(actor, restart=restart)
    await run_for(child, 5)
    assert len(actor.started_at) == runs
    assert actor.cleaned == runs
    assert child.state is State.STOPPED
    assert child.restarts == runs - 1


async def test_each_run_is_in_the_task_of_who_keeps_it(autojump_clock: MockClock) -> None:
    tasks: list[trio.lowlevel.Task] = []

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        tasks.append(trio.lowlevel.current_task())
        task_status.started()
        await trio.sleep(0.1)
        raise ValueError("crash")

    async with trio.open_nursery() as nursery:
        await nursery.start(keep_running, child := Child(ChildSpec("thing", "kind", run, BUDGET)), Metrics())
        await trio.sleep(4)
        assert tasks == [*nursery.child_tasks] * 3
        await child.stop()


async def test_that_it_ends_before_it_has_started_is_a_crash(autojump_clock: MockClock) -> None:
    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.lowlevel.checkpoint()

    child = Child(ChildSpec("thing", "kind", run, BUDGET, Restart.TRANSIENT, first_start_must_succeed=False))
    await run_for(child, 100)
    assert child.state is State.PARKED
    assert child.last_crash == "RuntimeError: ended before it had started"


async def test_backoff_doubles(autojump_clock: MockClock) -> None:
    actor = Actor("crash", "crash")
    await run_for(child_of(actor), 9)
    first, second, third = actor.started_at
    assert 0.5 <= second - first <= 1
    assert 1 <= third - second <= 2


async def test_spent_budget_tells_once_and_stays_down(autojump_clock: MockClock) -> None:
    actor = Actor("crash", "crash", "crash", "crash")
    told: list[str] = []
    child = child_of(actor, on_spent=lambda: told.append("spent"))

    async def check() -> None:
        assert child.state is State.PARKED

    await run_for(child, 100, check)
    assert told == ["spent"]
    assert len(actor.started_at) == 3
    assert child.state is State.PARKED


async def test_crashes_outside_the_window_are_forgiven(autojump_clock: MockClock) -> None:
    class Slow(Actor):
        async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
            self.started_at.append(trio.current_time())
            task_status.started(0)
            await trio.sleep(6)
            raise ValueError("after a while")

    actor = Slow()
    child = child_of(actor)
    await run_for(child, 100)
    assert len(actor.started_at) > 10


async def test_excused_crashes_do_not_count(autojump_clock: MockClock) -> None:
    actor = Actor(*["crash"] * 20)
    child = child_of(actor, excused=lambda: True)
    await run_for(child, 100)
    assert len(actor.started_at) == 21
    assert not child.crashes


async def test_first_start_that_fails_is_a_failed_boot(autojump_clock: MockClock) -> None:
    child = child_of(Actor("crash before started"))
    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError)), trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_running, child, Metrics())
    assert child.state is State.STOPPED
    assert child.ended.is_set()


async def test_first_start_may_fail_where_the_spec_says_so(autojump_clock: MockClock) -> None:
    actor = Actor("crash before started")
    child = child_of(actor, first_start_must_succeed=False)
    await run_for(child, 5)
    assert len(actor.started_at) == 2


async def test_a_later_start_that_fails_is_a_crash_like_any(autojump_clock: MockClock) -> None:
    actor = Actor("crash", "crash before started")
    child = child_of(actor)
    await run_for(child, 9)
    assert len(actor.started_at) == 3
    assert child.restarts == 2


async def test_started_value_is_passed_on(autojump_clock: MockClock) -> None:
    child = child_of(Actor())
    async with trio.open_nursery() as nursery:
        assert await nursery.start(keep_running, child, Metrics()) == 1
        await child.stop()


async def test_on_crash_runs_before_the_wait_and_gets_the_crash(autojump_clock: MockClock) -> None:
    seen: list[tuple[float, BaseException | None]] = []
    child = child_of(Actor("crash", "end"), on_crash=lambda crash: seen.append((trio.current_time(), crash)))
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_running, child, Metrics())
        await wait_all_tasks_blocked()
        assert isinstance(seen[0][1], ExceptionGroup)
        assert child.state is State.BACKING_OFF
        await trio.sleep(5)
        assert seen[1][1] is None
        assert child.last_crash == "ended although it should run"
        await child.stop()


async def test_stop_waits_for_clean_up_but_not_for_ever(autojump_clock: MockClock) -> None:
    async def stubborn(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)

    child = Child(ChildSpec("stubborn", "kind", stubborn, BUDGET, shutdown_s=3))
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_running, child, Metrics())
        before = trio.current_time()
        await child.stop()
        assert trio.current_time() - before == pytest.approx(3)
        assert not child.ended.is_set()


async def test_cancelling_from_outside_is_no_crash(autojump_clock: MockClock) -> None:
    actor = Actor()
    child = child_of(actor)
    metrics = Metrics()
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_running, child, metrics)
        nursery.cancel_scope.cancel()
    assert child.state is State.STOPPED
    assert not child.crashes
    assert len(actor.started_at) == 1


async def test_restarts_are_counted_by_kind(autojump_clock: MockClock) -> None:
    metrics = Metrics()
    child = child_of(Actor("crash"))
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_running, child, metrics)
        await trio.sleep(5)
        await child.stop()
    assert metrics.registry.get_sample_value("tracking_actor_restarts_total", {"actor": "kind"}) == 1
