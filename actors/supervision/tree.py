"""The supervision tree: children in start order, one stop for all of them.

A stop has two phases: whoever opened the tree waits for `stop_asked` and drains; only then the children end, the one
that was started last first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import attrs
import trio

from actors.supervision.child import Child, ChildSpec, Start, keep_running
from actors.supervision.restart import Budget
from actors.telemetry.metrics import Metrics

StartChild: TypeAlias = Callable[[ChildSpec], Awaitable[Any]]
"""Returns what the child's first `started(value)` gave; raises what a failed first start raised."""


@attrs.define(eq=False)
class Tree:
    """What is known of the children, before, while and after they run."""

    budget: Budget  # of each child
    metrics: Metrics
    children: list[Child] = attrs.field(factory=list)  # in start order, without the races
    exit_code: int = 0
    stop_asked: trio.Event = attrs.field(factory=trio.Event)

    def spec(self, name: str, start: Start, **more: Any) -> ChildSpec:
        """A permanent child whose spent budget takes the daemon down, after a drain."""
        return ChildSpec(name, name, start, self.budget, on_spent=lambda: self.stop(1), **more)

    def stop(self, exit_code: int = 0) -> None:
        """Ask for a drain; the worst exit code that was asked for counts."""
        self.exit_code = max(self.exit_code, exit_code)
        self.stop_asked.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[StartChild]:
        """Gives what starts a child. On leaving, also by a failed start, those started by it end in reverse order.

        Opened again within, the inner children end first, and something may be done before the outer ones do.
        """
        before = len(self.children)
        async with trio.open_nursery() as nursery:

            async def start(spec: ChildSpec) -> object:
                child = Child(spec)
                self.children.append(child)
                self.metrics.mailbox_depth.labels(actor=spec.kind).set_function(spec.depth)
                return await nursery.start(keep_running, child, self.metrics)

            try:
                yield start
            finally:
                with trio.CancelScope(shield=True):
                    for child in reversed(self.children[before:]):
                        await child.stop()
