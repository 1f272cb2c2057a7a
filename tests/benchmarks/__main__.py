"""All benchmarks one after the other at the sizes to be reached, and one table of what was: hours, not minutes.

`--table` prints the table of the JSON files of earlier runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from tests.benchmarks import report

SIZES = {
    "ingest": ["--count", "100000", "--seconds", "60", "--rates", "1000", "2000", "5000", "10000", "15000", "20000"],
    "fanout": [],
    "growth": [],
    "begin": [],
    "snapshots": [],
    "nodes": [],
    "capacity": [],
    "exports": [],
    "recovery": [],
    "startup": [],
}
WITH_PEER = ("ingest", "fanout")
COMPRESSED = "1,000 dashboards that take compressed frames against 1,000 that do not"
SNAPSHOT = "100 compressed, 60,000 participants, beside 2,000/s"
USUAL, BEST = "the peer's usual form", "the peer's best form"


@attrs.frozen
class Figure:
    """One line of the table."""

    text: str
    benchmark: str
    part: str  # of its JSON: rows, ratios or answers
    name: str
    key: str = ""  # of a result; "" for ratios
    at_least: float | None = None
    aim: float | None = None
    more_is_better: bool = False

    def value(self, found: dict[str, Any]) -> float | None:
        """The median, if it was measured."""
        results = found.get(self.benchmark, {}).get(self.part, {}).get(self.name, [])
        values = [result[self.key] if self.key else result for result in results if not self.key or self.key in result]
        return statistics.median(values) if values else None

    def verdict(self, value: float) -> str:
        """Which of the two it reaches."""
        if self.at_least is None:
            return ""

        def reaches(goal: float) -> bool:
            return value >= goal if self.more_is_better else value <= goal

        if self.aim is not None and reaches(self.aim):
            return "aim"
        return "yes" if reaches(self.at_least) else "NO"


def ratio(text: str, benchmark: str, at_least: float, aim: float | None, more: bool = True) -> Figure:
    """One that its benchmark prints."""
    return Figure(f"{benchmark}: {text}", benchmark, "ratios", text, "", at_least, aim, more)


FIGURES = (
    ratio(f"rows/s, burst, against {USUAL}", "ingest", 6, 10),
    ratio(f"rows/s, burst, against {BEST}", "ingest", 1.4, 2),
    ratio(f"CPU a message, burst, against {BEST}", "ingest", 0.6, 0.3, more=False),
    Figure("10,000/s: p99 to dashboard, ms", "ingest", "rows", "MQTT 5, 10,000/s", "shown_p99_ms", 200, 120),
    Figure("10,000/s: p99 to commit, ms", "ingest", "rows", "MQTT 5, 10,000/s", "committed_p99_ms"),
    Figure("1,000/s: CPU a message, µs", "ingest", "rows", "MQTT 5, 1,000/s", "cpu_us", 200, 100),
    ratio(f"CPU an update, {USUAL} (100 at 300/s) against 100 dashboards", "fanout", 10, 20),
    ratio(f"CPU an update, {USUAL} (100 at 300/s) against 1,000 dashboards", "fanout", 40, 80),
    Figure("1,000 dashboards: p99, ms", "fanout", "rows", "1,000 dashboards", "shown_p99_ms", 400, 200),
    Figure("1,000 dashboards: complete", "fanout", "rows", "1,000 dashboards", "complete", 1000, None, True),
    Figure("1,000 dashboards: in order", "fanout", "rows", "1,000 dashboards", "in_order", 1000, None, True),
    ratio(f"CPU an update, {COMPRESSED}", "fanout", 1, None, more=False),
    ratio(f"bytes an update, {COMPRESSED}", "fanout", 0.2, 0.1, more=False),
    ratio("p99 beside slow ones against without", "fanout", 1.1, None, more=False),
    *(
        Figure(f"{what}: CPU more, {kind}, µs", "growth", "rows", name, f"{kind}_more_us", *goals)
        for what, name, goals in (
            ("1,000 races", "1,000 races, 1,000 participants", (15, 8)),
            ("60,000 participants", "1 race, 60,000 participants", (6, 3)),
        )
        for kind in ("paced", "burst")
    ),
    *(
        Figure(f"10,000 races at once: {what}, s", "begin", "rows", "10,000 new races", key)
        for what, key in (("live", "live_s"), ("restored", "restored_s"), ("CPU until then", "cpu_s"))
    ),
    *(
        Figure(f"snapshot of 60,000 for 100 at once: {what}", "snapshots", "rows", SNAPSHOT, key, *goals)
        for what, key, goals in (
            ("bytes", "bytes_each", ()),
            ("CPU, s", "cpu_s", ()),
            ("MiB more", "grown_mib", (37,)),
            ("another waits, ms", "waited_ms", (50,)),
        )
    ),
    Figure("idle dashboard, kB", "fanout", "rows", "1,000 idle", "kb_each", 90, 40),
    Figure("live participant, kB", "growth", "rows", "1 race, 100,000 participants", "kb_each", 2, 1),
    Figure("after a backlog, MiB", "recovery", "rows", "backlog", "rss_mib"),
    Figure("most during a backlog, MiB", "recovery", "rows", "backlog", "peak_mib"),
    Figure("before a burst, MiB", "recovery", "rows", "burst", "idle_mib"),
    ratio("backlog against burst", "recovery", 0.8, 1),
    *(
        Figure(f"{name}: {key}", "growth", "answers", name, key, goal)
        for name, goal in (
            ("get_history, a race", 20),
            ("get_history, the big race", 20),
            ("snapshot of 10,000 participants, live", 50),
            ("list_races", 50),
        )
        for key in ("first_ms", "p50_ms")
    ),
    *(
        Figure(f"export of 10 million rows, {name}: {what}", "exports", "rows", name, key)
        for name in ("jsonl", "csv", "geojson", "gpx")
        for what, key in (("s", "all_s"), ("most memory, MiB", "peak_mib"))
    ),
    Figure("ready, external servers, s", "startup", "rows", "external servers, again", "ready_s"),
    Figure("ready, embedded servers, s", "startup", "rows", "embedded servers, again", "ready_s"),
)


def show(folder: Path) -> None:
    """The table of what lies in the folder."""
    paths = {name: folder / f"{name}.json" for name in SIZES}
    found = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    table = Table("figure", "measured", "at least", "aim for", "reached", title="what is to be reached")
    for figure in FIGURES:
        value = figure.value(found)
        goals = ["" if goal is None else report.number(goal) for goal in (figure.at_least, figure.aim)]
        measured = ["-", *goals, ""] if value is None else [report.number(value), *goals, figure.verdict(value)]
        table.add_row(figure.text, *measured)
    Console(width=130).print(table)


def main() -> None:
    """Run them, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--peer", type=Path, help="also measure the peer in this folder")
    parser.add_argument("--quick", action="store_true", help="so little that it shows only whether everything works")
    parser.add_argument("--repeat", type=int, help="rounds of each")
    parser.add_argument("--folder", type=Path, default=report.JSON_FOLDER, help="of the JSON files")
    parser.add_argument("--table", action="store_true", help="only print the table of an earlier run")
    args = parser.parse_args()
    for name, sizes in SIZES.items() if not args.table else ():
        argv = [sys.executable, "-m", f"tests.benchmarks.{name}", "--json", str(args.folder / f"{name}.json"), *sizes]
        argv += ["--quick"] * args.quick
        argv += ["--repeat", str(args.repeat)] if args.repeat else []
        argv += ["--peer", str(args.peer)] if args.peer and name in WITH_PEER else []
        subprocess.run(argv, check=True)
    show(args.folder)


if __name__ == "__main__":
    main()
