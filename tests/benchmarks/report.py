"""Results of a benchmark as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from tests.kit.daemon import SUPERVISOR

Rows = dict[str, list[dict[str, float]]]
"""What was measured -> one result a round."""

JSON_FOLDER = Path("var/benchmarks")
BUSY = 0.5
"""Load average above which this machine has something else to do."""


def options(name: str, description: str | None, repeat: int) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeat", type=int, default=repeat, help=f"rounds (default {repeat})")
    parser.add_argument("--json", type=Path, default=JSON_FOLDER / f"{name}.json", help="where all results go")
    parser.add_argument("--program", type=Path, default=SUPERVISOR, help="the supervisor.py to be measured")
    parser.add_argument("--quick", action="store_true", help="so little that it shows only whether everything works")
    return parser


def say(text: str) -> None:
    """Progress, to stderr."""
    print(text, file=sys.stderr, flush=True)


def add(rows: Rows, name: str, result: dict[str, float]) -> None:
    """One more round of this."""
    rows.setdefault(name, []).append(result)
    say(f"{name}: " + ", ".join(f"{key} {number(value)}" for key, value in result.items()))


def median(rows: Rows, name: str, key: str) -> float | None:
    """None when it was not measured."""
    values = [result[key] for result in rows.get(name, []) if key in result]
    return statistics.median(values) if values else None


def ratios(rows: Rows, above: str, below: str, key: str) -> list[float]:
    """Round by round, because only the same minutes can be compared."""
    pairs = zip(rows.get(above, []), rows.get(below, []), strict=False)
    return [top[key] / bottom[key] for top, bottom in pairs if key in top and bottom.get(key)]


def number(value: float) -> str:
    """Three digits that matter."""
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def spread(values: list[float]) -> str:
    """Median (lowest to highest)."""
    middle = number(statistics.median(values))
    return f"{middle} ({number(min(values))} to {number(max(values))})" if len(values) > 1 else middle


def show(title: str, columns: Mapping[str, str], rows: Rows) -> None:
    """`columns`: key of a result -> heading."""
    table = Table(Column(no_wrap=True), *columns.values(), title=title)
    for name, results in rows.items():
        cells = [[result[key] for result in results if key in result] for key in columns]
        table.add_row(name, *(spread(values) if values else "" for values in cells))
    Console(width=180).print(table)


def show_ratios(rows: Rows, wanted: Mapping[str, tuple[str, str, str]]) -> dict[str, list[float]]:
    """`wanted`: text -> (above, below, key)."""
    found = {text: values for text, names in wanted.items() if (values := ratios(rows, *names))}
    for text, values in found.items():
        print(f"{text}: {spread(values)}")
    return found


def write(args: argparse.Namespace, rows: Rows, **more: object) -> None:
    """All results, and where they are from."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    machine = {
        "cpus": os.cpu_count(),
        "model": model[0].partition(": ")[2] if model else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    report = {"at": datetime.now(UTC).isoformat(), "machine": machine, "options": plain, "rows": rows, **more}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=1) + "\n")


def begin() -> None:
    """Warn when the numbers of this machine would mislead; SIGTERM ends everything that was started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if (load := os.getloadavg()[0]) > BUSY:
        say(f"warning: this machine is busy (load average {load:.1f}): take the numbers for nothing")
