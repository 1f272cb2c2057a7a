"""How long the loop is held: while a step of anybody holds it, or the machine lets it wait, nobody is served.

Of each pass of trio's loop: by how much it began later than it was to, and how long it took. A timer can be that late.
Own counts instead of prometheus_client's: there are thousands of passes a second, and its `observe` takes longer than
the rest. A timer of 10 ms would see less, and wakes an idle daemon a hundred times a second (1 % of a core).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate

import trio
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class LoopWatch(trio.abc.Instrument, Collector):
    """To be added to a run of trio, and registered where metrics are collected. Both are the caller's to undo."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock  # seconds
        self._passes = [0] * (len(BUCKETS_S) + 1)  # by bucket, the last has those beyond
        self._sum_s = 0.0
        self._due = self._began = clock()

    def before_io_wait(self, timeout: float) -> None:
        """trio's: a pass has ended, and the next is due in `timeout` seconds at the latest."""
        now = self._clock()
        held_s = now - self._began
        self._passes[bisect_left(BUCKETS_S, held_s)] += 1
        self._sum_s += held_s
        self._due = now + timeout

    def after_io_wait(self, timeout: float) -> None:
        """trio's: a pass begins, in time when something came before it was due."""
        self._began = min(self._clock(), self._due)

    def collect(self) -> Iterator[Metric]:
        """prometheus_client's."""
        text = "Of each pass of the loop, by how much it came too late and how long it took: nobody else is served"
        bounds = [*map(str, BUCKETS_S), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(self._passes)), strict=True))
        yield HistogramMetricFamily("tracking_loop_stall_seconds", text, buckets=buckets, sum_value=self._sum_s)
