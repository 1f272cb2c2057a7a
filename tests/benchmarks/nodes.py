"""Several nodes on this machine: what the relay costs the one that reads, and how much later others show it.

One node reads, others show (`[cluster] ingest = none`), each with as many dashboards. Then one, two and three share the
reading. CPU is that of each daemon alone.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.cluster import run
from tests.benchmarks.load import Load
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site

COLUMNS = {
    "reading_us": "reading node: µs/message",
    "showing_us": "each other one: µs/message",
    "all_us_an_update": "all nodes: µs/update",
    "reading_p99_ms": "shown there p99 ms",
    "showing_p99_ms": "shown elsewhere p99 ms",
    "complete": "complete dashboards",
}
SHARED = {
    "rows_per_s": "rows/s",
    "all_us": "all nodes: µs/message",
    "busy": "busiest node, of a core",
    "most_to_least": "most to least taken",
}


def measure(site: Site, folder: Path, others: int, relay: bool, watching: int, load: Load) -> dict[str, float]:
    """`watching` dashboards on each node."""
    ran = run(site, folder, ["alone", *["none"] * others], watching, load, relay)
    found = {
        "reading_us": ran.cpu_s[0] / load.count * 1e6,
        "all_us_an_update": sum(ran.cpu_s) / sum(each["updates"] for each in ran.seen) * 1e6,
        "reading_p99_ms": ran.seen[0]["p99_ms"],
        "complete": sum(each["complete"] for each in ran.seen),
    }
    if others:
        found["showing_us"] = sum(ran.cpu_s[1:]) / others / load.count * 1e6
        found["showing_p99_ms"] = max(each["p99_ms"] for each in ran.seen[1:])
    return found


def measure_shared(site: Site, folder: Path, readers: int, load: Load) -> dict[str, float]:
    """So many nodes take their turns of a burst; nobody watches."""
    ran = run(site, folder, ["shared"] * readers, 0, load)
    most, least = max(ran.taken), min(ran.taken)
    return {
        "rows_per_s": ran.rows_per_s,
        "all_us": sum(ran.cpu_s) / load.count * 1e6,
        "busy": max(ran.cpu_s) / ran.lasted_s,
        "most_to_least": most / max(1, least),
    }


def measure_round(site: Site, folder: Path, args: argparse.Namespace) -> Rows:
    """Alone, with the relay, and with others."""
    rows: Rows = {}
    load = Load("paced", args.rate * args.seconds, args.rate, tracks=args.tracks)
    for others, relay in ((0, False), (0, True), (1, True), (args.others, True)):
        name = f"{1 + others} node{'s' * (others > 0)}, {'with' if relay else 'without'} relay"
        add(rows, name, measure(site, folder / f"{others}-{relay}", others, relay, args.dashboards, load))
    burst = Load("burst", args.burst)
    for readers in (1, 2, 3):
        name = f"{readers} that share{'s' * (readers == 1)} a burst"
        add(rows, name, measure_shared(site, folder / f"{readers}-shared", readers, burst))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = report.options("nodes", __doc__, repeat=3)
    parser.add_argument("--rate", type=int, default=1000, help="messages a second (default 1000)")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--dashboards", type=int, default=100, help="on each node (default 100)")
    parser.add_argument("--others", type=int, default=5, help="nodes beside the one that reads (default 5)")
    parser.add_argument("--burst", type=int, default=50_000, help="messages for nodes that share (default 50,000)")
    parser.add_argument("--tracks", default="", help="a recording whose places are published")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.seconds, args.dashboards, args.others, args.burst = 1, 2, 2, 2, 1000
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        for turn in range(args.repeat):
            (folder := Path(name) / f"round-{turn}").mkdir()
            for what, results in measure_round(site, folder, args).items():
                rows.setdefault(what, []).extend(results)
    report.show("several nodes", COLUMNS, {name: found for name, found in rows.items() if "relay" in name})
    report.show("nodes that share what the broker has", SHARED, {n: found for n, found in rows.items() if "share" in n})
    report.write(args, rows)


if __name__ == "__main__":
    main()
