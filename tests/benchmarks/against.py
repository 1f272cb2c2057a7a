"""One benchmark of two daemons in turn, an older checkout's and this one, and the ratio of each figure.

Both run in this environment, so the older one's requirements must be met here too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import report
from tests.benchmarks.report import Rows
from tests.kit.daemon import SUPERVISOR


def measured(benchmark: str, program: Path, options: list[str]) -> Rows:
    """One round of it."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        argv = [sys.executable, "-m", f"tests.benchmarks.{benchmark}", "--program", str(program.absolute())]
        subprocess.run([*argv, "--repeat", "1", "--json", file.name, *options], check=True, stdout=sys.stderr)
        found = json.loads(Path(file.name).read_text())
    rows: Rows = found["rows"] | found.get("answers", {})
    return rows


def compared(older: Rows, newer: Rows) -> list[tuple[str, str, list[float], list[float]]]:
    """(what, figure, older's, newer's), round by round."""
    return [
        (what, key, [result[key] for result in older[what]], [result[key] for result in newer[what]])
        for what in older.keys() & newer.keys()
        for key in older[what][0]
        if all(key in result for result in older[what] + newer[what])
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.against",
        description=__doc__,
        epilog="Behind -- stand options of the benchmark.",
    )
    parser.add_argument("older", type=Path, help="the supervisor.py of the older checkout")
    parser.add_argument("benchmark", help="ingest, fanout, growth, begin, snapshots, exports, recovery or startup")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--json", type=Path, default=report.JSON_FOLDER / "against.json", help="where all results go")
    given = sys.argv[1:]
    ours = given.index("--") if "--" in given else len(given)
    args, options = parser.parse_args(given[:ours]), given[ours + 1 :]
    report.begin()
    rows: dict[str, Rows] = {"older": {}, "newer": {}}
    for turn in range(args.repeat):
        subjects = [("older", args.older), ("newer", Path(SUPERVISOR))]
        for name, program in subjects if turn % 2 == 0 else subjects[::-1]:
            report.say(f"--- round {turn + 1}: {name}")
            for what, results in measured(args.benchmark, program, options).items():
                rows[name].setdefault(what, []).extend(results)
    table = Table("", "figure", "older", "newer", "newer / older", title=f"{args.benchmark}, in turn")
    for what, key, older, newer in sorted(compared(rows["older"], rows["newer"]), key=lambda row: row[:2]):
        ratios = [new / old for old, new in zip(older, newer, strict=True) if old]
        table.add_row(what, key, report.spread(older), report.spread(newer), report.spread(ratios) if ratios else "")
    Console(width=150).print(table)
    report.write(args, {}, older=rows["older"], newer=rows["newer"])


if __name__ == "__main__":
    main()
