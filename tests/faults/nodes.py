"""Several daemons on the servers of one station, each a process of its own that can be killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import psycopg

from actors.core.addresses import PostgresAddress
from tests.faults.press import Press
from tests.kit.commands import run_commands
from tests.kit.daemon import SUPERVISOR, WITHIN_S, Running, started, until, write_settings
from tests.kit.metrics import conserved
from tests.kit.servers import lasting_port
from tests.kit.station import Station, conninfo

NAMES = ("a", "b", "c")


@attrs.define(eq=False)
class Node:
    """One daemon over all its lives; its data_dir stays."""

    at: Station
    name: str
    keys: dict[str, dict[str, object]]  # on top of those of the station
    port: int = attrs.field(factory=lasting_port)
    prefix: Sequence[str] = ()  # runs it somewhere else
    seen_at: int = 0  # its port as we reach it; 0: `port`
    _life: ExitStack = attrs.field(factory=ExitStack)
    _running: Running | None = None

    @property
    def running(self) -> Running:
        assert self._running is not None, f"{self.name} is not started"
        return self._running

    @property
    def lives(self) -> bool:
        return self._running is not None

    @property
    def folder(self) -> Path:
        return self.at.folder / f"node-{self.name}"

    def start(self) -> None:
        """A new life; see `ingest`."""
        self.folder.mkdir(exist_ok=True)
        sections = self.at.sections()
        ours: dict[str, dict[str, object]] = {
            "app": {"node_id": self.name, "port": self.port},
            "ws": {"port": self.port},
            "cluster": {"ingest": "standby", "relay": "yes"},
        }
        for keys in (ours, self.at.keys, self.keys):
            for section, more in keys.items():
                sections.setdefault(section, {}).update(more)
        path = write_settings(self.folder, sections)
        self._running = self._life.enter_context(started(path, self.port, prefix=self.prefix))
        self.running.port = self.seen_at or self.port

    def kill(self) -> None:
        """SIGKILL."""
        self.running.kill()
        self._ended()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        code = self.running.stop()
        self._ended()
        return code

    def ready(self) -> None:
        """A new life, which takes fixes when this returns."""
        self.start()
        self.running.until_ready()

    def command(self, *args: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Beside it, or without it, to its end; `check` is the exit code it must have."""
        return run_commands([["--settings", str(self.folder / "settings.ini"), *args]], check=check)[0]

    def begin(self, *args: str) -> subprocess.Popen[str]:
        """The same, while the test goes on; who began it waits for its end."""
        argv = [sys.executable, SUPERVISOR, "--settings", str(self.folder / "settings.ini"), *args]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def left(self) -> int:
        """It ends by itself; the exit code."""
        code = self.running.process.wait(WITHIN_S)
        self._ended()
        return code

    def freeze(self) -> None:
        """SIGSTOP."""
        self.running.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.running.process.send_signal(signal.SIGCONT)

    def ingest(self) -> str:
        """See `Running.ingest`."""
        return self.running.ingest()

    def _ended(self) -> None:
        self._running = None
        self._life.close()


@attrs.define(eq=False)
class Nodes:
    """All of a station."""

    at: Station
    all: tuple[Node, ...]

    def reader(self) -> Node | None:
        """The one that reads, while all others wait; None when it is not so."""
        states = [(node.ingest(), node) for node in self.all if node.lives]
        readers = [node for state, node in states if state == "reading"]
        waiting = [node for state, node in states if state == "waiting"]
        return readers[0] if len(readers) == 1 and len(waiting) == len(states) - 1 else None

    def one_reads(self, what: str, within_s: float = 30.0) -> Node:
        """Wait until one reads and all others wait."""
        found: list[Node] = []

        def settled() -> bool:
            for node in self.all:
                assert not node.lives or node.running.process.poll() is None, node.running.log[-3000:]
            reader = self.reader()
            if reader is not None:
                found.append(reader)
            return reader is not None

        until(settled, what, within_s)
        return found[0]

    def another_reads(self, than: Node, what: str, within_s: float = 30.0) -> tuple[Node, float]:
        """Which, and after how many seconds."""
        began = time.monotonic()
        others = [node for node in self.all if node is not than and node.lives]
        until(lambda: any(node.ingest() == "reading" for node in others), what, within_s)
        took_s = time.monotonic() - began
        return next(node for node in others if node.ingest() == "reading"), took_s

    def check(self, press: Press, *databases: Callable[[], set[str]]) -> None:
        """Nothing that the broker took is lost, nothing is there twice, each node accounts for all that it took."""
        press.finish()

        def stored() -> set[str]:
            return set().union(*(rows() for rows in databases or (self.stored,)))

        until(lambda: press.acknowledged <= stored(), "all that was acknowledged is stored", 60.0)
        assert stored() <= press.sent.keys(), "rows that nobody sent"
        for node in self.all:
            if node.lives:
                until(lambda node=node: conserved(node.running.metrics()), f"{node.name} accounts for all")  # type: ignore[misc]
                lost = node.running.metrics()["tracking_mqtt_session_lost_total"]
                assert lost == 0, f"{node.name}: {node.running.log[-3000:]}"

    def stored(self, postgres: PostgresAddress | None = None) -> set[str]:
        """Ids of the rows, none of which is there twice; over a connection of its own."""
        with psycopg.connect(conninfo(postgres or self.at.postgres), autocommit=True) as db:
            rows = [row[0] for row in db.execute("select id::text from tracking_positions")]
        assert len(rows) == len(set(rows)), "the same twice"
        return set(rows)


@contextmanager
def nodes_of(at: Station, names: tuple[str, ...] = NAMES, **keys: dict[str, object]) -> Iterator[Nodes]:
    """Not started; whatever the test does, none is left."""
    made = Nodes(at, tuple(Node(at, name, dict(keys)) for name in names))
    try:
        yield made
    finally:
        for node in made.all:
            if node.lives:
                node.kill()
