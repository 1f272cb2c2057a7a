"""Recovery: a backlog in the broker's session, then the daemon is started; and a burst of the same size beside it.

The backlog's rate is of the rows after its first commit up to its last, the burst's from its first publish; the CPU of
a backlog includes the start. No dashboards. Memory: the most that was ever resident, and what stays.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.load import Load, measure, new_race, publisher
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site
from tests.benchmarks.subject import Place, Subject, daemon_place

COLUMNS = {
    "rows_per_s": "rows/s",
    "cpu_us": "CPU µs/message",
    "ready_s": "ready s",
    "drained_s": "drained s",
    "idle_mib": "MiB before",
    "peak_mib": "most",
    "rss_mib": "after",
}
RATIOS = {"backlog against burst": ("backlog", "burst", "rows_per_s")}
SETTLE_S = 1.0


def measure_burst(site: Site, subject: Subject, load: Load) -> dict[str, float]:
    """Published to a daemon that runs."""
    idle_mib = subject.memory_mib()
    found = measure(site, subject, load, 0)
    time.sleep(SETTLE_S)
    memory = {"idle_mib": idle_mib, "peak_mib": subject.memory_mib("VmHWM"), "rss_mib": subject.memory_mib()}
    return {"rows_per_s": found["rows_per_s"], "cpu_us": found["cpu_us"], **memory}


def measure_backlog(site: Site, place: Place, load: Load) -> dict[str, float]:
    """Published while no daemon runs, into the session that an earlier start has left."""
    race_id = new_race()
    with publisher(site, race_id, load) as press:
        press.go()
        published = press.finish(load.within_s)
    began = time.time()
    with place.daemon() as subject:
        ready = time.time()
        took = site.committed(place.database, race_id, published["began"], load.count, load.within_s)
        cpu_s = subject.cpu_s()
        assert not subject.settle(load.count), "something had to be done again"
        time.sleep(SETTLE_S)
        return {
            "rows_per_s": (took.rows - took.first_rows) / (took.last_s - took.first_s),
            "cpu_us": cpu_s / load.count * 1e6,
            "ready_s": ready - began,
            "drained_s": took.last_s - began,
            "peak_mib": subject.memory_mib("VmHWM"),
            "rss_mib": subject.memory_mib(),
        }


def measure_round(site: Site, folder: Path, args: argparse.Namespace) -> Rows:
    """Burst, backlog, and another backlog."""
    rows: Rows = {}
    load = Load("burst", args.count)
    site.afresh("daemon")
    place = daemon_place(site, folder, "daemon", {})
    with place.daemon() as subject:
        add(rows, "burst", measure_burst(site, subject, load))
    add(rows, "backlog", measure_backlog(site, place, load))
    add(rows, "another backlog", measure_backlog(site, place, load))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = report.options("recovery", __doc__, repeat=3)
    parser.add_argument("--count", type=int, default=200_000, help="messages of the backlog (default 200000)")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.count = 1, 5_000
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        for turn in range(args.repeat):
            for what, results in measure_round(site, Path(name) / f"daemon-{turn}", args).items():
                rows.setdefault(what, []).extend(results)
    report.show(f"recovery: {args.count:,} messages", COLUMNS, rows)
    report.write(args, rows, ratios=report.show_ratios(rows, RATIOS))


if __name__ == "__main__":
    main()
