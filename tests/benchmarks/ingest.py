"""Ingest: from publisher to committed row, QoS 1, one race, one dashboard; a burst, and paced at rising rates.

Beside it in every round: paho alone, which only takes and acknowledges, and with --peer the peer in two forms. The end
of a load is the commit of its last row, by PostgreSQL's own record; of paho alone, the last message.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.load import Load, helper, measure, new_race, publisher
from tests.benchmarks.peer import VARIANTS, running_peer
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site
from tests.benchmarks.subject import daemon_place

OUTBOX_BYTES = 256 << 20
WARM_UP = 20_000
"""Messages: Node compiles on the way."""

PROTOCOLS = ("5", "3.1.1")
COLUMNS = {
    "rows_per_s": "rows/s",
    "cpu_us": "CPU µs/message",
    "shown_p50_ms": "to dashboard p50",
    "shown_p99_ms": "p99",
    "shown_max_ms": "max ms",
    "committed_p50_ms": "to commit p50",
    "committed_p99_ms": "p99",
    "committed_max_ms": "max ms",
    "updates": "updates",
    "resyncs": "resyncs",
    "rss_mib": "MiB",
    "behind_ms": "late ms",
}
RATIOS = {
    "rows/s, burst, against the peer's usual form": ("MQTT 5, burst", "peer socketio single, burst", "rows_per_s"),
    "rows/s, burst, against the peer's best form": ("MQTT 5, burst", "peer ws batch unnest, burst", "rows_per_s"),
    "rows/s, burst, against paho alone": ("MQTT 5, burst", "paho alone, MQTT 5", "rows_per_s"),
    "CPU a message, burst, against the peer's best form": ("MQTT 5, burst", "peer ws batch unnest, burst", "cpu_us"),
    "CPU a message, burst, against paho alone": ("MQTT 5, burst", "paho alone, MQTT 5", "cpu_us"),
}


def paho_alone(site: Site, protocol: str, load: Load) -> dict[str, float]:
    """The library's ceiling."""
    site.broker.stop()
    site.broker.start()
    with (
        helper("ceiling", port=site.broker.port, count=load.count, protocol=protocol) as ceiling,
        publisher(site, new_race(), load) as press,
    ):
        press.go()
        began = press.finish(load.within_s)["began"]
        took = ceiling.finish(load.within_s)
    return {"rows_per_s": load.count / (took["ended"] - began), "cpu_us": took["cpu_s"] / load.count * 1e6}


def measure_daemon(site: Site, folder: Path, protocol: str, loads: list[Load], args: argparse.Namespace) -> Rows:
    """All loads into one daemon, the first one only to warm it up."""
    site.afresh("daemon")
    sections = {"mqtt": {"protocol": protocol}, "ws": {"outbox_bytes": args.outbox_bytes}}
    rows: Rows = {}
    with daemon_place(site, folder, "daemon", sections).daemon() as subject:
        report.say(f"MQTT {protocol}: the daemon is pid {subject.process.pid}")
        measure(site, subject, loads[0])
        for load in loads[1:]:
            add(rows, f"MQTT {protocol}, {load.name}", measure(site, subject, load))
        assert not subject.settle(sum(load.count for load in loads)), "something had to be done again"
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = report.options("ingest", __doc__, repeat=3)
    parser.add_argument("--count", type=int, default=20_000, help="messages of the burst (default 20000)")
    parser.add_argument("--rates", type=int, nargs="*", default=[1_000, 10_000], help="paced, messages a second")
    parser.add_argument("--seconds", type=int, default=10, help="how long a paced load lasts (default 10)")
    parser.add_argument("--participants", type=int, default=200)
    parser.add_argument("--protocols", nargs="*", choices=PROTOCOLS, default=PROTOCOLS)
    parser.add_argument(
        "--outbox-bytes",
        type=int,
        default=OUTBOX_BYTES,
        help="[ws] outbox_bytes: large, so that a burst ends in no resync and as many updates are compared as of the "
        "peer, which has no bound; the daemon's default is 1048576",
    )
    parser.add_argument("--peer", type=Path, help="also measure the peer in this folder")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.count, args.rates, args.seconds = 1, 3000, [500], 2
    loads = [Load("warm-up", min(WARM_UP, args.count)), Load("burst", args.count, 0, args.participants)]
    loads += [Load(f"{rate:,}/s", rate * args.seconds, rate, args.participants) for rate in args.rates]
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        for turn in range(args.repeat):
            for protocol in args.protocols:
                found = measure_daemon(site, Path(name) / f"daemon-{turn}-{protocol}", protocol, loads, args)
                for what, results in found.items():
                    rows.setdefault(what, []).extend(results)
                add(rows, f"paho alone, MQTT {protocol}", paho_alone(site, protocol, loads[1]))
            for variant in VARIANTS if args.peer else ():
                with running_peer(args.peer, site, variant) as subject:
                    measure(site, subject, loads[0])
                    add(rows, f"{variant}, burst", measure(site, subject, loads[1]))
        flush_ms = site.flush_ms()
    report.show("ingest: QoS 1, one race, one dashboard", COLUMNS, rows)
    print(f"to commit: one flush of PostgreSQL's log, {flush_ms:.2f} ms on average, comes on top")
    if any(result.get("resyncs") for results in rows.values() for result in results):
        print("a dashboard got a resync in place of updates: ratios of those runs are not fair")
    found_ratios = report.show_ratios(rows, RATIOS)
    report.write(args, rows, ratios=found_ratios, flush_ms=flush_ms)


if __name__ == "__main__":
    main()
