"""Where the time of a run of all tests went, told at its end: the log of each CI run holds it."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import attrs
import pytest

SLOWEST = 15


def by(group: Callable[[str], str], seconds: Mapping[str, float]) -> list[tuple[float, str]]:
    """(sum, group), longest first."""
    sums: dict[str, float] = defaultdict(float)
    for nodeid, took in seconds.items():
        sums[group(nodeid)] += took
    return sorted(((took, name) for name, took in sums.items()), reverse=True)


def table(seconds: Mapping[str, float]) -> Iterator[str]:
    """Lines, of the seconds of each test: all folders, then the slowest files and the slowest tests."""
    folders = by(lambda nodeid: "/".join(nodeid.partition("::")[0].split("/")[:2]), seconds)
    files = by(lambda nodeid: nodeid.partition("::")[0], seconds)
    for slowest in (folders, files[:SLOWEST], by(str, seconds)[:SLOWEST]):
        yield ""
        yield from (f"{took:8.1f} s  {name}" for took, name in slowest)


@attrs.define(eq=False)
class Durations:
    """A plugin of the process that reports; the workers tell it what their tests took."""

    began: float = attrs.field(factory=time.monotonic)
    seconds: dict[str, float] = attrs.field(factory=lambda: defaultdict(float))  # test -> set-up, call and tear-down

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The processors' seconds are those of workers and servers that have ended, and of what these started."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(each.ru_utime + each.ru_stime for each in used)
        terminalreporter.section("where the time went")
        terminalreporter.line(f"{time.monotonic() - self.began:8.1f} s by the clock, {cpu:.0f} s of the processors")
        for line in table(self.seconds):
            terminalreporter.line(line)
