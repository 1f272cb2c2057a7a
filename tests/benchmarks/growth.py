"""Growth: the cost of a message with more races and with more participants, at one total rate; then answers.py.

Each step is a fresh daemon that first gets as many messages in a burst as every other step, so that all participants
are live and memory differs only by what is kept. Then a burst and a paced load are measured. No dashboards: a race
that is looked at costs more than one that is not.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks import answers, report
from tests.benchmarks.load import Load, measure, new_race
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site
from tests.benchmarks.subject import daemon_place

BASE = (1, 1_000)
STEPS = ((1, 200), BASE, (100, 1_000), (1_000, 1_000), (10_000, 10_000), (1, 10_000), (1, 60_000), (1, 100_000))
"""(races, participants in all of them); what BASE costs, measured right before, is subtracted from the others."""

COLUMNS = {
    "burst_cpu_us": "burst: µs/message",
    "burst_more_us": "more",
    "paced_cpu_us": "paced: µs/message",
    "paced_more_us": "more",
    "burst_rows_per_s": "burst: rows/s",
    "committed_p99_ms": "paced: commit p99 ms",
    "rss_mib": "MiB",
    "kb_each": "kB/participant",
    "again": "done again",
    "behind_ms": "late ms",
}


def name_of(races: int, participants: int) -> str:
    """Of a step."""
    return f"{races:,} race{'s' * (races > 1)}, {participants:,} participants"


def measure_step(site: Site, folder: Path, races: int, participants: int, args: argparse.Namespace) -> dict[str, float]:
    """One size."""
    site.afresh("daemon")
    warm_up = Load("warm-up", max(args.warm_up, participants), 0, participants, races)
    burst = Load("burst", args.burst, 0, participants, races)
    paced = Load("paced", args.rate * args.seconds, args.rate, participants, races)
    race_id = new_race()
    with daemon_place(site, folder, "daemon", {}).daemon() as subject:
        report.say(f"{name_of(races, participants)}: the daemon is pid {subject.process.pid}")
        measure(site, subject, warm_up, 0, race_id)
        memory_mib = subject.memory_mib()
        in_burst = measure(site, subject, burst, 0, race_id)
        in_pace = measure(site, subject, paced, 0, race_id)
        again = subject.settle(warm_up.count + burst.count + paced.count)
    return {
        "again": again,
        "burst_cpu_us": in_burst["cpu_us"],
        "burst_rows_per_s": in_burst["rows_per_s"],
        "paced_cpu_us": in_pace["cpu_us"],
        "committed_p99_ms": in_pace["committed_p99_ms"],
        "behind_ms": in_pace["behind_ms"],
        "rss_mib": memory_mib,
    }


def measure_steps(site: Site, folder: Path, args: argparse.Namespace) -> Rows:
    """All sizes once, each right after the base, from which it differs: in minutes the machine changes by as much."""
    rows: Rows = {}
    steps = [step for step in STEPS if step != BASE and args.smallest <= max(step) <= args.largest]
    for races, participants in steps:
        own = folder / f"daemon-{races}-{participants}"
        base = measure_step(site, own.with_name(f"{own.name}-base"), *BASE, args)
        result = measure_step(site, own, races, participants, args)
        more = {f"{kind}_more_us": result[f"{kind}_cpu_us"] - base[f"{kind}_cpu_us"] for kind in ("burst", "paced")}
        if races == 1 and participants > BASE[1]:
            more["kb_each"] = (result["rss_mib"] - base["rss_mib"]) * 1024 / (participants - BASE[1])
        add(rows, name_of(*BASE), base)
        add(rows, name_of(races, participants), result | more)
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = report.options("growth", __doc__, repeat=3)
    parser.add_argument("--rate", type=int, default=2000, help="messages a second when paced (default 2000)")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--burst", type=int, default=50_000, help="messages of a burst (default 50000)")
    parser.add_argument("--warm-up", type=int, default=100_000, help="messages before that (default 100000)")
    parser.add_argument("--largest", type=int, default=100_000, help="leave out steps with more races or participants")
    parser.add_argument("--smallest", type=int, default=0, help="and those with fewer")
    answers.add_options(parser)
    parser.add_argument("--only", choices=("cost", "answers"), help="one half")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.seconds, args.burst, args.warm_up, args.largest = 1, 2, 2_000, 2_000, 1_000
        args.rows, args.questions = 20_000, 5
    rows: Rows = {}
    answered: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        for turn in range(args.repeat if args.only != "answers" else 0):
            folder = Path(name) / f"turn-{turn}"
            folder.mkdir()
            for what, results in measure_steps(site, folder, args).items():
                rows.setdefault(what, []).extend(results)
        if args.only != "cost":
            answered = answers.measure_answers(site, Path(name) / "answers", args)
    if rows:
        report.show(
            f"growth: CPU of a message in a burst and at {args.rate:,}/s, and how much more than {name_of(*BASE)}",
            COLUMNS,
            rows,
        )
    if answered:
        report.show(f"answers: a table of {args.rows:,} rows", answers.COLUMNS, answered)
    report.write(args, rows, answers=answered)


if __name__ == "__main__":
    main()
