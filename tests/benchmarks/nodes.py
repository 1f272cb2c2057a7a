"""Several nodes on this machine: what the relay costs the one that reads, and how much later others show it.

One node reads, others show (`[cluster] ingest = none`), each with as many dashboards. CPU is that of each daemon alone.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.load import GRACE_S, Load, dashboards, new_race, publisher
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site
from tests.benchmarks.subject import daemon_place

COLUMNS = {
    "reading_us": "reading node: µs/message",
    "showing_us": "each other one: µs/message",
    "all_us_an_update": "all nodes: µs/update",
    "reading_p99_ms": "shown there p99 ms",
    "showing_p99_ms": "shown elsewhere p99 ms",
    "complete": "complete dashboards",
}


def measure(site: Site, folder: Path, others: int, relay: bool, watching: int, load: Load) -> dict[str, float]:
    """`watching` dashboards on each node."""
    site.afresh("daemon")
    folder.mkdir()
    race_id = new_race()
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(
                daemon_place(
                    site,
                    folder / f"node-{number}",
                    "daemon",
                    {"cluster": {"relay": "yes" if relay else "no", "ingest": "none" if number else "alone"}},
                ).daemon()
            )
            for number in range(1 + others)
        ]
        crowds = [
            stack.enter_context(dashboards(subject, race_id, watching, updates=load.count)) for subject in subjects
        ]
        press = stack.enter_context(publisher(site, race_id, load))
        began = [subject.cpu_s() for subject in subjects]
        press.go()
        published = press.finish(load.within_s)
        site.committed("daemon", race_id, published["began"], load.count, load.within_s)
        seen = [crowd.finish(GRACE_S) for crowd in crowds]
        spent = [subject.cpu_s() - before for subject, before in zip(subjects, began, strict=True)]
    found = {
        "reading_us": spent[0] / load.count * 1e6,
        "all_us_an_update": sum(spent) / sum(each["updates"] for each in seen) * 1e6,
        "reading_p99_ms": seen[0]["p99_ms"],
        "complete": sum(each["complete"] for each in seen),
    }
    if others:
        found["showing_us"] = sum(spent[1:]) / others / load.count * 1e6
        found["showing_p99_ms"] = max(each["p99_ms"] for each in seen[1:])
    return found


def measure_round(site: Site, folder: Path, args: argparse.Namespace) -> Rows:
    """Alone, with the relay, and with others."""
    rows: Rows = {}
    load = Load("paced", args.rate * args.seconds, args.rate, tracks=args.tracks)
    for others, relay in ((0, False), (0, True), (1, True), (args.others, True)):
        name = f"{1 + others} node{'s' * (others > 0)}, {'with' if relay else 'without'} relay"
        add(rows, name, measure(site, folder / f"{others}-{relay}", others, relay, args.dashboards, load))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = report.options("nodes", __doc__, repeat=3)
    parser.add_argument("--rate", type=int, default=1000, help="messages a second (default 1000)")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--dashboards", type=int, default=100, help="on each node (default 100)")
    parser.add_argument("--others", type=int, default=5, help="nodes beside the one that reads (default 5)")
    parser.add_argument("--tracks", default="", help="a recording whose places are published")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.seconds, args.dashboards, args.others = 1, 2, 2, 2
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        for turn in range(args.repeat):
            (folder := Path(name) / f"round-{turn}").mkdir()
            for what, results in measure_round(site, folder, args).items():
                rows.setdefault(what, []).extend(results)
    report.show("several nodes", COLUMNS, rows)
    report.write(args, rows)


if __name__ == "__main__":
    main()
