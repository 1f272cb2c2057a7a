"""Ingest, from publisher to committed row: `python -m tests.benchmarks.ingest [--peer FOLDER] [--json FILE]`.

Everything runs on this machine: servers, the daemon as a process, a publisher at QoS 1, one dashboard. Prints a table
of medians with (lowest to highest) and writes all runs as JSON. The peer takes its turn in every round, so that the
ratios are of the same minutes: numbers of different minutes cannot be compared on a shared machine.
FOLDER is a copy of ../shared/peer after `npm ci && npm run build`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import attrs
import trio
from rich.console import Console
from rich.table import Table

from tests.benchmarks import peer
from tests.benchmarks.site import Site, start_site
from tests.benchmarks.watcher import watching
from tests.live.daemon import DaemonProcess, daemon, external, write_settings
from tests.servers import free_port

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
WITHIN_S = 60.0
"""After the last message was published."""
PROTOCOLS = ("5", "3.1.1")
Runs: TypeAlias = dict[str, list[dict[str, float]]]
"""What was measured -> one result a turn."""
COLUMNS = {
    "rows_per_s": "rows/s",
    "cpu_us": "CPU µs/message",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "rss_mib": "MiB",
    "resyncs": "resyncs",
}


@attrs.frozen
class Load:
    """What is published."""

    name: str
    count: int
    rate: float  # messages a second; 0 = burst

    @property
    def seconds(self) -> float:
        """How long it is published."""
        return self.count / self.rate if self.rate else 0.0


async def measure(running: DaemonProcess, broker_port: int, load: Load, participants: int) -> dict[str, float]:
    """One load into a running daemon, until every row is committed, acknowledged and at the dashboard."""
    race_id = f"B{time.time_ns()}"
    pid = running.process.pid
    committed, acked = await running.metric("fixes_committed_total"), await running.metric("acks_total")
    publisher = [sys.executable, "-m", "tests.benchmarks.publisher", "--port", str(broker_port), "--race", race_id]
    publisher += ["--count", str(load.count), "--rate", str(load.rate), "--participants", str(participants)]
    async with watching(running.port, await running.token(), race_id) as watcher:
        cpu_s = cpu_seconds(pid)
        with trio.fail_after(load.seconds + WITHIN_S):
            done = await trio.run_process(publisher, capture_stdout=True)
            # Metrics are asked only when the last update is there: each answer costs the daemon some milliseconds.
            await watcher.until(updates=load.count)
            await running.until_metric("fixes_committed_total", committed + load.count)
            await running.until_metric("acks_total", acked + load.count)
        ended = time.monotonic()
        cpu_s = cpu_seconds(pid) - cpu_s
    latencies = watcher.latencies_ms()
    return {
        "rows_per_s": load.count / (ended - json.loads(done.stdout)["began"]),
        "cpu_us": cpu_s / load.count * 1e6,
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[len(latencies) * 99 // 100],
        "rss_mib": resident_mib(pid),
        "resyncs": watcher.snapshots - 1,
    }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process: fields 14 and 15 of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def resident_mib(pid: int) -> float:
    """Memory of a process now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


async def measure_daemon(site: Site, folder: Path, protocol: str, loads: list[Load], args: argparse.Namespace) -> Runs:
    """All loads, one after the other, into one daemon with a fresh database, after a warm-up."""
    address = await site.new_database("daemon")
    port = free_port()
    sections = external(site.broker.port, site.redis_address, address, port)
    sections["mqtt"]["protocol"] = protocol
    found: Runs = {}
    async with daemon(write_settings(folder, sections), port) as running:
        print(f"MQTT {protocol}: daemon is pid {running.process.pid}", file=sys.stderr)
        for load in [Load("warm-up", args.count // 10, 0), *loads]:
            found[f"MQTT {protocol}, {load.name}"] = [await measure(running, site.broker.port, load, args.participants)]
        assert await running.conservation_holds()
        assert await running.stop() == 0
    del found[f"MQTT {protocol}, warm-up"]
    return found


async def measure_all(site: Site, folder: Path, args: argparse.Namespace) -> Runs:
    """Every measurement, `repeat` times in turn."""
    loads = [Load("burst", args.count, 0)]
    loads += [Load(f"{rate:,}/s", rate * args.seconds, rate) for rate in args.rates]
    runs: Runs = {}
    for _ in range(args.repeat):
        for protocol in args.protocols:
            found = await measure_daemon(site, folder, protocol, loads, args)
            for name, results in found.items():
                runs.setdefault(name, []).extend(results)
        if args.peer is not None:
            for variant in peer.VARIANTS:
                result = await peer.measure(args.peer, site, variant, args.count, args.participants)
                runs.setdefault(f"{variant}, burst", []).append(result)
    return runs


def show(runs: Runs) -> None:
    """Medians, and from where to where."""
    table = Table("", *COLUMNS.values(), title="ingest, QoS 1, one race, one dashboard")
    for name, results in runs.items():
        cells = []
        for key in COLUMNS:
            values = [result[key] for result in results]
            digits = 1 if key == "cpu_us" else 0
            low, middle, high = (f"{x:,.{digits}f}" for x in (min(values), statistics.median(values), max(values)))
            cells.append(f"{middle} ({low} to {high})" if len(values) > 1 else middle)
        table.add_row(name, *cells)
    Console(width=140).print(table)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="messages of the burst")
    parser.add_argument("--rates", type=int, nargs="*", default=[1_000, 10_000], help="paced, messages a second")
    parser.add_argument("--seconds", type=int, default=10, help="how long a paced load lasts")
    parser.add_argument("--participants", type=int, default=200)
    parser.add_argument("--protocols", nargs="*", choices=PROTOCOLS, default=PROTOCOLS)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peer", type=Path, help="also measure the peer in this folder")
    parser.add_argument("--json", type=Path, default=Path("var/ingest.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name)) as site:
        runs = trio.run(partial(measure_all, site, Path(name), args))
    show(runs)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()}
    report = {"at": datetime.now(UTC).isoformat(), "machine": machine, "count": args.count, "runs": runs}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
