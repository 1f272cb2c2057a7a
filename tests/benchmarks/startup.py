"""Start-up: from starting the process until it is ready for fixes, with servers that run and with embedded ones."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import start_site
from tests.benchmarks.subject import Place, daemon_place, place
from tests.embedded.embedded_place import make_place, reachable_folder
from tests.kit.servers import free_port

COLUMNS = {"ready_s": "ready s", "cpu_s": "CPU s", "stop_s": "stopped s", "rss_mib": "MiB"}


def measure_start(where: Place) -> dict[str, float]:
    """Once, and how long it takes to stop again."""
    began = time.monotonic()
    with where.daemon() as subject:
        ready = time.monotonic()
        found = {"ready_s": ready - began, "cpu_s": subject.cpu_s(), "rss_mib": subject.memory_mib()}
        stopping = time.monotonic()
    return {**found, "stop_s": time.monotonic() - stopping}


def measure_help(program: Path) -> dict[str, float]:
    """The part of Python and of the imports."""
    began = time.monotonic()
    subprocess.run([sys.executable, str(program), "run", "--help"], check=True, stdout=subprocess.DEVNULL)
    return {"ready_s": time.monotonic() - began}


def measure_external(folder: Path, program: Path, rows: Rows) -> None:
    """Broker, PostgreSQL and Valkey run already."""
    folder.mkdir()
    with start_site(folder / "servers", program) as site:
        site.afresh("daemon")
        where = daemon_place(site, folder / "daemon", "daemon", {})
        add(rows, "external servers, empty database", measure_start(where))
        add(rows, "external servers, again", measure_start(where))


def measure_embedded(program: Path, rows: Rows) -> None:
    """Broker, PostgreSQL and Valkey are started by the daemon."""
    with reachable_folder() as folder, make_place(folder / "daemon" / "var"):
        where = place(folder / "daemon", {"mqtt": {"embedded_bind": f"127.0.0.1:{free_port()}"}}, program)
        add(rows, "embedded servers, first start", measure_start(where))
        add(rows, "embedded servers, again", measure_start(where))


def main() -> None:
    """Measure, print, write."""
    args = report.options("startup", __doc__, repeat=5).parse_args()
    if args.quick:
        args.repeat = 1
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name:
        for turn in range(args.repeat):
            add(rows, "run --help (Python and imports)", measure_help(args.program))
            measure_external(Path(name) / str(turn), args.program, rows)
            measure_embedded(args.program, rows)
    report.show("start-up", COLUMNS, rows)
    report.write(args, rows)


if __name__ == "__main__":
    main()
