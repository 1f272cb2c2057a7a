"""One load into a subject, watched from outside: the same publisher, dashboards and questions whoever is measured."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, cast

import attrs

from tests.benchmarks.site import Site
from tests.benchmarks.subject import Subject

SLOWEST_PER_S = 200
"""Messages a second that the slowest of all takes in a burst: after that it is broken."""

SPARE_S = 120.0
GRACE_S = 5.0
"""For updates, once every row is committed."""


@attrs.frozen
class Load:
    """What is published."""

    name: str
    count: int
    rate: float = 0  # messages a second; 0 = burst
    participants: int = 200
    races: int = 1
    tracks: str = ""  # a recording whose places are published, for what depends on them: how well they compress

    @property
    def within_s(self) -> float:
        """How long it may take until all is committed."""
        return (self.count / self.rate if self.rate else 0.0) + self.count / SLOWEST_PER_S + SPARE_S


@attrs.define(eq=False)
class Helper:
    """A process that says `ready` and later prints one JSON object."""

    process: subprocess.Popen[str]

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self, within_s: float) -> dict[str, Any]:
        """What it found; after that time it is asked to stop."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(within_s)
        out, _ = self.process.communicate(timeout=SPARE_S)
        assert self.process.returncode == 0, f"{self.process.args!r} ended with {self.process.returncode}"
        return cast("dict[str, Any]", json.loads(out))


@contextmanager
def helper(module: str, **options: object) -> Iterator[Helper]:
    """`python -m tests.benchmarks.MODULE --option value ...`, ready."""
    argv = [sys.executable, "-m", f"tests.benchmarks.{module}"]
    for name, value in options.items():
        argv += [f"--{name.replace('_', '-')}", str(value)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", f"{argv} said {line!r}"
        yield Helper(process)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def dashboards(subject: Subject, race_id: str, count: int, **options: object) -> Iterator[Helper]:
    """So many of them, subscribed: see crowd.py."""
    with helper(
        "crowd", port=subject.port, dialect=subject.dialect, race=race_id, dashboards=count, **options
    ) as crowd:
        yield crowd


def publisher(site: Site, race_id: str, load: Load) -> Any:
    """Connected, waiting for `go`."""
    return helper(
        "publisher",
        port=site.broker.port,
        race=race_id,
        count=load.count,
        rate=load.rate,
        participants=load.participants,
        races=load.races,
        tracks=load.tracks,
    )


def new_race() -> str:
    """An id that was never used, and that begins no other one."""
    return f"B{time.time_ns()}"


def measure(site: Site, subject: Subject, load: Load, watching: int = 1, race_id: str = "") -> dict[str, float]:
    """One load, until every row is committed and every dashboard has every update, or got a resync instead."""
    race_id = race_id or new_race()
    found: dict[str, float] = {}
    with ExitStack() as stack:
        crowd = watching and stack.enter_context(dashboards(subject, race_id, watching, updates=load.count))
        press = stack.enter_context(publisher(site, race_id, load))
        cpu_s = subject.cpu_s()
        press.go()
        published = press.finish(load.within_s)
        committed = site.committed(subject.database, race_id, published["began"], load.count, load.within_s)
        if crowd:
            seen = crowd.finish(GRACE_S)
            found |= {f"shown_{name}": seen[name] for name in ("p50_ms", "p99_ms", "max_ms")}
            found |= {name: seen[name] for name in ("complete", "in_order", "resyncs", "updates", "frames")}
            found["crowd_cpu_s"] = seen["cpu_s"]
            found["bytes_an_update"] = seen["received_bytes"] / max(1, seen["updates"])
            found["cpu_us_an_update"] = (subject.cpu_s() - cpu_s) / max(1, seen["updates"]) * 1e6
        cpu_s = subject.cpu_s() - cpu_s
    return found | {
        "rows_per_s": load.count / (committed.last_s - published["began"]),
        "cpu_us": cpu_s / load.count * 1e6,
        "committed_p50_ms": committed.p50_ms,
        "committed_p99_ms": committed.p99_ms,
        "committed_max_ms": committed.max_ms,
        "behind_ms": published["behind_ms"],
        "rss_mib": subject.memory_mib(),
    }
