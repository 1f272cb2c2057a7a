"""`demo --nodes 2` for real: what one node reads the other shows, and nothing is left of them, however it ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from paho.mqtt import publish

from actors.settings.values import bind_address
from tests.embedded.embedded_place import Place, make_place, reachable_folder
from tests.faults.spectator import Spectator
from tests.kit.daemon import START_S, SUPERVISOR, WITHIN_S, until, write_settings
from tests.kit.expected import fix, now_ms
from tests.kit.servers import descendants, free_port, is_alive
from tests.kit.station import as_payload
from tests.kit.tokens import SECRET

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with reachable_folder() as folder, make_place(folder / "var") as made:
        yield made


@attrs.define
class Demo:
    """As a process."""

    place: Place
    process: subprocess.Popen[bytes]
    said: Path  # what it printed
    ports: list[int] = attrs.field(factory=list)  # of the nodes, once it has told its links

    @property
    def nodes(self) -> list[int]:
        """Process ids."""
        return sorted(self.marked(), key=lambda pid: b"node-2" in self.marked()[pid])

    def marked(self) -> dict[int, bytes]:
        """Processes that were given settings of a node: pid -> command line."""
        found = {}
        for pid in (int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()):
            try:
                argv = Path(f"/proc/{pid}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(self.place.data_dir / "nodes") in argv and is_alive(pid):
                found[pid] = argv
        return found

    def send(self, participant: str) -> None:
        """A fix of race R."""
        broker = bind_address(self.place.settings.mqtt.embedded_bind)
        payload = as_payload(fix("R", participant, now_ms()))
        publish.single("tracking/P/position", payload, qos=1, hostname=broker.host, port=broker.port)

    def left(self) -> list[object]:
        """What is still there."""
        return [*self.marked(), *self.place.servers()]

    def kill(self) -> None:
        """All that is left, also when the demo itself is gone."""
        there = [self.process.pid] if self.process.poll() is None else []
        parents = [*there, *self.marked(), *map(self.place.pid, self.place.servers())]
        for pid in [each for parent in parents for each in (*descendants(parent), parent)]:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(2 * WITHIN_S)


@contextmanager
def demo(place: Place) -> Iterator[Demo]:
    """`demo --nodes 2`; whatever happens, nothing is left of it."""
    folder, port = place.data_dir.parent, free_port()
    bind = place.settings.mqtt.embedded_bind
    sections: dict[str, dict[str, object]] = {
        "app": {"port": port},
        "ws": {"port": port, "auth_secret": SECRET},
        "mqtt": {"embedded_bind": bind},
    }
    argv = [sys.executable, SUPERVISOR, "--settings", str(write_settings(folder, sections))]
    said = folder / "stdout"
    with said.open("wb") as out:
        process = subprocess.Popen([*argv, "demo", "--participants", "1", "--nodes", "2"], stdout=out, stderr=out)
    running = Demo(place, process, said)
    try:
        until(lambda: process.poll() is not None or "Ctrl-C" in said.read_text(), "links", 2 * START_S)
        links = re.findall(r"^Dashboard of node-\d: http://127\.0\.0\.1:(\d+)/#token=", said.read_text(), re.MULTILINE)
        assert len(links) == 2, said.read_text()
        running.ports = [int(link) for link in links]
        yield running
    finally:
        running.kill()


@contextmanager
def had_back(running: Demo, name: str) -> Iterator[None]:
    """By the command that was printed; killed in the end."""
    (command,) = re.findall(rf"{name} is gone .*:\n +(.*)", running.said.read_text())
    with running.said.open("ab") as out:
        process = subprocess.Popen(shlex.split(command), stdout=out, stderr=out)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_both_show_what_one_of_them_reads_and_ctrl_c_ends_all(place: Place) -> None:
    with demo(place) as running:
        with Spectator(running.ports[0], ("R",)) as here, Spectator(running.ports[1], ("R",)) as there:
            until(lambda: here.connected == there.connected == 1, "dashboards")
            running.send("P1")
            until(lambda: len(here.shown()) == 1 and here.shown() == there.shown(), "the same on both")
        assert len(running.nodes) == 2
        assert not any(SECRET.encode() in argv for argv in running.marked().values())
        assert running.stop() == 0, running.said.read_text()
        assert running.left() == []


def test_killed_it_leaves_nothing(place: Place) -> None:
    with demo(place) as running:
        running.process.kill()
        running.process.wait()
        until(lambda: running.left() == [], "all gone", 2 * WITHIN_S)


def test_a_first_node_that_was_killed_can_be_had_back_and_leaves_nothing(place: Place) -> None:
    with demo(place) as running, Spectator(running.ports[1], ("R",)) as there:
        until(lambda: len(there.shown()) == 1, "of the demo before")
        os.kill(running.nodes[0], signal.SIGKILL)
        until(lambda: "node-1 is gone (SIGKILL)" in running.said.read_text(), "it is named")
        assert "valkey" in place.servers(), "the other node has its stores"
        assert len(running.nodes) == 1
        running.send("P2")
        with had_back(running, "node-1"):
            until(lambda: len(there.shown()) == 2, "the broker kept it", START_S)
        assert "valkey" in place.servers()
        assert running.stop() == 0, running.said.read_text()
        assert running.left() == []
