"""A snapshot of many participants for many dashboards at once: bytes, CPU, memory, and how long others wait.

At rest, and while the race goes on. CPU and memory are the daemon's, from the first request to the last byte; another
client asks for /livez all the time, and tells how long it ever waited.
"""

from __future__ import annotations

import argparse
import http.client
import selectors
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from tests.benchmarks import report
from tests.benchmarks.load import Load, measure, new_race, publisher
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site
from tests.benchmarks.subject import Subject, daemon_place
from tests.benchmarks.websocket import READ_BYTES, SUBSCRIBE, WebSocket, connect
from tests.kit.tokens import token
from tests.kit.websocket import LAST, OFFER, TEXT, fragments

STEADY_S = 2.0
WITHIN_S = 120.0
PAUSE_S = 0.001  # of who asks for /livez

COLUMNS = {
    "bytes_each": "bytes each",
    "cpu_s": "CPU s",
    "all_s": "all have it after s",
    "grown_mib": "MiB more",
    "waited_ms": "another waited ms",
    "held": "passes > 50 ms",
}


@attrs.define(eq=False)
class Board:
    """A dashboard that waits for its snapshot."""

    socket: WebSocket
    unread: bytearray = attrs.field(factory=bytearray)
    received_bytes: int = 0
    done: bool = False

    def read(self) -> None:
        """What has come."""
        data = self.socket.sock.recv(READ_BYTES)
        assert data, "closed"
        self.received_bytes += 0 if self.done else len(data)
        self.unread += data
        taken = 0
        with memoryview(self.unread) as view:
            for first, _, taken in fragments(view):  # noqa: B007
                self.done |= first & LAST > 0 and first & 0x0F <= TEXT
        del self.unread[:taken]


@contextmanager
def asking(port: int) -> Iterator[list[float]]:
    """Seconds that each answer to another client took."""
    waits: list[float] = []
    over = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while not over.wait(PAUSE_S):
            began = time.perf_counter()
            connection.request("GET", "/livez")
            connection.getresponse().read()
            waits.append(time.perf_counter() - began)
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()


def ask_all(subject: Subject, race_id: str, count: int, offer: str | None) -> dict[str, float]:
    """So many dashboards at once, until each has its snapshot."""
    path = f"/tracking?token={token()}"
    boards = [Board(connect(subject.port, path, offer=offer)) for _ in range(count)]
    pid = subject.process.pid
    with selectors.DefaultSelector() as selector, asking(subject.port) as waits:
        for board in boards:
            selector.register(board.socket.sock, selectors.EVENT_READ, board)
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins anew: proc_pid_clear_refs(5)
        memory, cpu_s, held, began_s = subject.memory_mib(), subject.cpu_s(), subject.passes_held(), time.monotonic()
        for board in boards:
            board.socket.say(SUBSCRIBE.replace("RACE", race_id))
        while not all(board.done for board in boards):
            assert time.monotonic() < began_s + WITHIN_S
            for key, _ in selector.select(1.0):
                key.data.read()
        cpu_s, all_s = subject.cpu_s() - cpu_s, time.monotonic() - began_s
        grown, held = subject.memory_mib("VmHWM") - memory, subject.passes_held() - held
    for board in boards:
        board.socket.sock.close()
    return {
        "bytes_each": sum(board.received_bytes for board in boards) / count,
        "cpu_s": cpu_s,
        "all_s": all_s,
        "grown_mib": grown,
        "waited_ms": max(waits) * 1000,
        "held": held,
    }


def measure_round(site: Site, folder: Path, args: argparse.Namespace) -> Rows:
    """Each kind of dashboard, by a daemon of its own."""
    rows: Rows = {}
    for name, offer in (("plain", None), ("compressed", OFFER)):
        site.afresh("daemon")
        race_id = new_race()
        with ExitStack() as stack:
            subject = stack.enter_context(daemon_place(site, folder / name, "daemon", {}).daemon())
            crowd = Load("all", args.participants, 0, args.participants, tracks=args.tracks)
            measure(site, subject, crowd, 0, race_id)
            what = f"{args.dashboards} {name}, {args.participants:,} participants"
            add(rows, f"{what}, at rest", ask_all(subject, race_id, args.dashboards, offer))
            going_on = Load("goes on", int(args.rate * WITHIN_S), args.rate, args.participants, tracks=args.tracks)
            press = stack.enter_context(publisher(site, race_id, going_on))
            press.go()
            time.sleep(STEADY_S)
            add(rows, f"{what}, beside {args.rate:,}/s", ask_all(subject, race_id, args.dashboards, offer))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = report.options("snapshots", __doc__, repeat=3)
    parser.add_argument("--participants", type=int, default=60_000)
    parser.add_argument("--dashboards", type=int, default=100, help="that ask at once (default 100)")
    parser.add_argument("--rate", type=int, default=2000, help="messages a second of the race (default 2000)")
    parser.add_argument("--tracks", default="", help="a recording whose places are published")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.participants, args.dashboards = 1, 2_000, 5
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        for turn in range(args.repeat):
            (folder := Path(name) / f"round-{turn}").mkdir()
            for what, results in measure_round(site, folder, args).items():
                rows.setdefault(what, []).extend(results)
    report.show("a snapshot for many at once", COLUMNS, rows)
    report.write(args, rows)


if __name__ == "__main__":
    main()
