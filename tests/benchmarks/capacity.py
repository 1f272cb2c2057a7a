"""A model of what nodes cost, from one and two of them, and how well it foretells two and three.

Costs are processor seconds of one core. A node that reads pays for waking up, which the rate hardly changes, and for
each fix; a node that shows pays for what others tell it; both pay for each frame to each dashboard. What a site needs
beside that (broker, PostgreSQL, Redis) is not in it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

from tests.benchmarks import report
from tests.benchmarks.cluster import Ran, run
from tests.benchmarks.load import Load
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site

WINDOWS_PER_S = 10
"""[ws] batch_window_ms = 100: so many frames a second of a race in which somebody moves."""

SLOW, FAST = 500, 2000
"""Messages a second, for what a node pays anyway and what it pays for each."""

FULL = 0.6
"""Of a core: what is more is for bursts, and for the nodes that take over."""

UPDATE_BYTES = 15
"""To one dashboard that takes compressed frames, measured on recorded tracks (README)."""

PLANS = {  # name -> (fixes a second, viewers, [ws] batch_window_ms)
    "a village run: 200 runners, a fix every 5 s; 500 viewers": (40, 500, 100),
    "a city marathon: 50,000 runners, a fix every 5 s; 100,000 viewers": (10_000, 100_000, 1000),
    "the same with a fix every 30 s": (1_667, 100_000, 1000),
    "a fix every 30 s, a million viewers": (1_667, 1_000_000, 1000),
}

COLUMNS = {"foretold": "foretold, of a core", "measured": "measured", "ratio": "foretold / measured"}
PLANNED = {
    "reading_core": "the node that reads, of a core",
    "viewers_a_node": "viewers a showing node carries",
    "showing_nodes": "such nodes",
    "gbit_per_s": "Gbit/s to viewers",
}


@attrs.frozen
class Costs:
    """Of one core; rates are a second."""

    awake: float  # of a node that reads, at any rate
    fix_s: float  # read, stored, live, relayed
    told: float  # of a node that shows a race, at any rate
    told_fix_s: float  # that another node shows
    frame_s: float  # to one dashboard

    def reading(self, fixes: float, elsewhere: float, frames: float) -> float:
        """A node that takes `fixes` and is told of those `elsewhere`, with so many frames to all its dashboards."""
        others = self.told + self.told_fix_s * elsewhere if elsewhere else 0.0
        return self.awake + self.fix_s * fixes + others + self.frame_s * frames

    def showing(self, elsewhere: float, frames: float) -> float:
        """A node that reads nothing."""
        return self.told + self.told_fix_s * elsewhere + self.frame_s * frames


@attrs.frozen
class Seen:
    """Processor seconds a second of one node, and what it did."""

    rate: float
    core: float

    @classmethod
    def of(cls, ran: Ran, node: int) -> Seen:
        return cls(ran.count / ran.lasted_s, ran.cpu_s[node] / ran.lasted_s)


def line(low: Seen, high: Seen) -> tuple[float, float]:
    """What it costs at any rate, and for each message."""
    each = (high.core - low.core) / (high.rate - low.rate)
    return low.core - each * low.rate, each


def find_costs(site: Site, folder: Path, seconds: int, crowd: int) -> Costs:
    """From one node that reads, and one beside it that shows."""
    low, high = (
        run(site, folder / f"alone-{rate}", ["alone"], 0, Load("paced", rate * seconds, rate)) for rate in (SLOW, FAST)
    )
    awake, fix_s = line(Seen.of(low, 0), Seen.of(high, 0))
    few, many = (
        run(site, folder / f"beside-{rate}", ["alone", "none"], 1, Load("paced", rate * seconds, rate))
        for rate in (SLOW, FAST)
    )
    told, told_fix_s = line(Seen.of(few, 1), Seen.of(many, 1))
    watched = run(site, folder / "watched", ["alone"], crowd, Load("paced", FAST * seconds, FAST))
    frame_s = (Seen.of(watched, 0).core - Seen.of(high, 0).core) / (crowd * WINDOWS_PER_S)
    return Costs(awake, fix_s, told, told_fix_s, frame_s)


def foretell(costs: Costs, ingest: Sequence[str], rate: float, crowd: int) -> float:
    """All nodes together, each with such a crowd of one race."""
    readers = sum(mode != "none" for mode in ingest)
    frames = WINDOWS_PER_S * crowd * readers  # each reader's own
    reading = costs.reading(rate / readers, rate - rate / readers, frames)
    return readers * reading + (len(ingest) - readers) * costs.showing(rate, frames)


def plan(costs: Costs, fixes: float, viewers: int, window_ms: int) -> dict[str, float]:
    """Nodes of one core each, none fuller than FULL; and what they send. One race: many share less."""
    windows_per_s = 1000 / window_ms
    reading = costs.reading(fixes, 0, 0)
    each = (FULL - costs.showing(fixes, 0)) / (windows_per_s * costs.frame_s)  # viewers of a node that shows
    return {
        "reading_core": reading,
        "viewers_a_node": each,
        "showing_nodes": math.ceil(viewers / each) if reading + viewers * windows_per_s * costs.frame_s > FULL else 0,
        "gbit_per_s": viewers * fixes * UPDATE_BYTES * 8 / 1e9,
    }


def measure_round(site: Site, folder: Path, args: argparse.Namespace) -> Rows:
    """Costs, then set-ups that they were not taken from."""
    rows: Rows = {}
    costs = find_costs(site, folder, args.seconds, args.dashboards)
    add(
        rows,
        "costs",
        {name: value * (1e6 if name.endswith("_s") else 1) for name, value in attrs.asdict(costs).items()},
    )
    setups = {
        "one reads, one shows": (["alone", "none"], 1000),
        "one reads, two show": (["alone", "none", "none"], 1000),
        "two share": (["shared"] * 2, 2000),
        "three share": (["shared"] * 3, 2000),
        "two share, one shows": (["shared", "shared", "none"], 2000),
    }
    for name, (ingest, rate) in setups.items():
        load = Load("paced", rate * args.seconds, rate)
        ran = run(site, folder / name.replace(" ", "-"), ingest, args.dashboards, load)
        measured, foretold = sum(ran.cpu_s) / ran.lasted_s, foretell(costs, ingest, rate, args.dashboards)
        add(rows, name, {"foretold": foretold, "measured": measured, "ratio": foretold / measured})
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = report.options("capacity", __doc__, repeat=2)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--dashboards", type=int, default=100, help="on each node (default 100)")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.seconds, args.dashboards = 1, 2, 5
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        for turn in range(args.repeat):
            (folder := Path(name) / f"round-{turn}").mkdir()
            for what, results in measure_round(site, folder, args).items():
                rows.setdefault(what, []).extend(results)
    report.show("costs: of a core, and in µs", dict.fromkeys(rows["costs"][0], ""), {"costs": rows["costs"]})
    known = {name: statistics.median(found[name] for found in rows["costs"]) for name in rows["costs"][0]}
    costs = Costs(**{name: value / (1e6 if name.endswith("_s") else 1) for name, value in known.items()})
    for name, wanted in PLANS.items():
        add(rows, name, plan(costs, *wanted))
    report.show("machines", PLANNED, {name: found for name, found in rows.items() if name in PLANS})
    report.show("foretold", COLUMNS, {name: found for name, found in rows.items() if "ratio" in found[0]})
    report.write(args, rows)


if __name__ == "__main__":
    main()
