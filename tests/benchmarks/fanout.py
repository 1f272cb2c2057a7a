"""Fan-out: one race at a paced rate to 1, 100 and 1,000 dashboards, each of which must get every update in order; and
to as many that take compressed frames.

CPU of an update is all CPU of the process, taking and storing included, by updates delivered. Beside it: idle
dashboards (memory), the peer and the daemon at the peer's pace, and 100 dashboards with and without one that never
reads and ten that read slowly: a burst before has filled what the kernel holds for those, so that the daemon feels it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path

import attrs

from tests.benchmarks import report
from tests.benchmarks.load import Load, dashboards, measure, new_race
from tests.benchmarks.peer import VARIANTS, running_peer
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site
from tests.benchmarks.subject import Subject, daemon_place

COLUMNS = {
    "rate": "fixes/s",
    "dashboards": "boards",
    "cpu_us_an_update": "µs/update",
    "bytes_an_update": "B/update",
    "cpu_us": "µs/message",
    "shown_p50_ms": "p50",
    "shown_p99_ms": "p99",
    "shown_max_ms": "max ms",
    "complete": "complete",
    "in_order": "in order",
    "resyncs": "resyncs",
    "kb_each": "kB each",
    "rss_mib": "MiB",
    "dropped": "dropped",
    "behind_ms": "late ms",
}
RATIOS = {
    "CPU an update, the peer's usual form (100 at 300/s) against 100 dashboards": (
        "peer socketio single, 100",
        "100 dashboards",
        "cpu_us_an_update",
    ),
    "CPU an update, the peer's usual form (100 at 300/s) against 1,000 dashboards": (
        "peer socketio single, 100",
        "1,000 dashboards",
        "cpu_us_an_update",
    ),
    "CPU an update, the peer's best form (100 at 300/s) against 100 dashboards": (
        "peer ws batch unnest, 100",
        "100 dashboards",
        "cpu_us_an_update",
    ),
    "CPU an update, the peer's best form (100 at 300/s) against 1,000 dashboards": (
        "peer ws batch unnest, 100",
        "1,000 dashboards",
        "cpu_us_an_update",
    ),
    "CPU an update, the peer's usual form against the daemon, both 100 at 300/s": (
        "peer socketio single, 100",
        "100 at the peer's pace",
        "cpu_us_an_update",
    ),
    "CPU an update, the peer's best form against the daemon, both 100 at 300/s": (
        "peer ws batch unnest, 100",
        "100 at the peer's pace",
        "cpu_us_an_update",
    ),
    "CPU an update, 1,000 dashboards that take compressed frames against 1,000 that do not": (
        "1,000 compressed",
        "1,000 dashboards",
        "cpu_us_an_update",
    ),
    "bytes an update, 1,000 dashboards that take compressed frames against 1,000 that do not": (
        "1,000 compressed",
        "1,000 dashboards",
        "bytes_an_update",
    ),
    "p99 beside slow ones against without": ("100 beside slow ones", "100 without slow ones", "shown_p99_ms"),
}
SETTLE_S = 1.0
ENOUGH = 100
"""Dashboards for which memory is told: with fewer, the rest of the process changes more than they add."""

FILLING = 40_000
"""Fixes: 8 MB of frames, more than kernel buffers and outbox hold."""

SLOW = 10
SLOW_BYTES = 2048
SLOW_EVERY_MS = 100
"""Ten of them take 20 kB a second each: a tenth of what they are sent at 1,000 fixes a second."""


def measure_idle(subject: Subject, number: int) -> dict[str, float]:
    """Dashboards of a race in which nothing happens."""
    before = subject.memory_mib()
    with dashboards(subject, new_race(), number):
        time.sleep(SETTLE_S)
        after = subject.memory_mib()
    return {"dashboards": number, "kb_each": (after - before) * 1024 / number, "rss_mib": after}


def measure_crowd(site: Site, subject: Subject, load: Load, number: int, race_id: str = "") -> dict[str, float]:
    """A load to so many dashboards."""
    return {"rate": load.rate, "dashboards": number, **measure(site, subject, load, number, race_id)}


def measure_after_burst(site: Site, subject: Subject, load: Load, number: int, slow: bool) -> dict[str, float]:
    """With or without the slow ones on the same race, and the one that never reads."""
    race_id = new_race()
    before = subject.running.metrics()
    with ExitStack() as stack:
        if slow:
            stack.enter_context(dashboards(subject, race_id, 1, read_bytes=0))
            options = {"read_bytes": SLOW_BYTES, "every_ms": SLOW_EVERY_MS}
            stack.enter_context(dashboards(subject, race_id, SLOW, **options))
        measure(site, subject, Load("burst", FILLING), 0, race_id)
        found = measure_crowd(site, subject, load, number, race_id)
        after = subject.running.metrics()
    resyncs, dropped = (
        after.get(name, 0.0) - before.get(name, 0.0)
        for name in ("tracking_ws_resyncs_total", "tracking_ws_dropped_total")
    )
    return {**found, "resyncs": resyncs, "dropped": dropped}


def measure_round(site: Site, args: argparse.Namespace, fresh: Iterator[AbstractContextManager[Subject]]) -> Rows:
    """Everything once; a fresh daemon for each size, so that memory is its own."""
    rows: Rows = {}
    load = Load("paced", args.rate * args.seconds, args.rate, tracks=args.tracks)
    pace = Load("the peer's pace", args.peer_rate * args.seconds, args.peer_rate)
    warm_up = Load("warm-up", args.rate * 2, args.rate)
    with next(fresh) as subject:
        add(rows, f"{args.idle:,} idle", measure_idle(subject, args.idle))
    names = {f"{number:,} dashboard{'s' * (number > 1)}": number for number in args.dashboards}
    names |= {f"{number:,} compressed": number for number in args.compressed}
    for name, number in names.items():
        with next(fresh) as subject:
            measure(site, subject, warm_up)
            if "compressed" in name:
                subject = attrs.evolve(subject, dialect="compressed")
            before = subject.memory_mib()
            found = measure_crowd(site, subject, load, number)
            if number >= ENOUGH:
                found["kb_each"] = (found["rss_mib"] - before) * 1024 / number
            add(rows, name, found)
    with next(fresh) as subject:
        measure(site, subject, warm_up)
        add(rows, f"{args.few} without slow ones", measure_after_burst(site, subject, load, args.few, False))
        add(rows, f"{args.few} beside slow ones", measure_after_burst(site, subject, load, args.few, True))
        add(rows, f"{args.few} at the peer's pace", measure_crowd(site, subject, pace, args.few))
    for variant in VARIANTS if args.peer else ():
        with running_peer(args.peer, site, variant) as subject:
            add(rows, f"{variant}, {args.idle:,} idle", measure_idle(subject, args.idle))
            measure(site, subject, warm_up, 10)
            add(rows, f"{variant}, {args.few}", measure_crowd(site, subject, pace, args.few))
    return rows


def fresh_daemons(site: Site, folder: Path) -> Iterator[AbstractContextManager[Subject]]:
    """One after the other, on empty servers."""

    @contextmanager
    def one(number: int) -> Iterator[Subject]:
        site.afresh("daemon")
        with daemon_place(site, folder / f"daemon-{number}", "daemon", {}).daemon() as subject:
            yield subject

    return (one(number) for number in count())


def main() -> None:
    """Measure, print, write."""
    parser = report.options("fanout", __doc__, repeat=3)
    parser.add_argument("--dashboards", type=int, nargs="*", default=[1, 100, 1000])
    parser.add_argument("--compressed", type=int, nargs="*", default=[1, 1000], help="as many that take such frames")
    parser.add_argument("--tracks", default="", help="a recording whose places are published")
    parser.add_argument("--few", type=int, default=100, help="dashboards of the comparisons (default 100)")
    parser.add_argument("--idle", type=int, default=1000, help="dashboards of a race without fixes (default 1000)")
    parser.add_argument("--rate", type=int, default=1000, help="fixes a second (default 1000)")
    parser.add_argument("--peer-rate", type=int, default=300, help="and beside the peer (default 300)")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--peer", type=Path, help="also measure the peer in this folder")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.seconds, args.dashboards, args.idle = 1, 2, [1, 100], 100
        args.compressed = [1, 100]
    rows: Rows = {}
    report.begin()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracking-bench-")))
        site = stack.enter_context(start_site(folder, args.program))
        fresh = fresh_daemons(site, folder)
        for _ in range(args.repeat):
            for name, results in measure_round(site, args, fresh).items():
                rows.setdefault(name, []).extend(results)
    report.show("fan-out: CPU, and from publisher to dashboard; one race, batch_window_ms 100", COLUMNS, rows)
    report.write(args, rows, ratios=report.show_ratios(rows, RATIOS))


if __name__ == "__main__":
    main()
