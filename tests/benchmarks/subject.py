"""What is measured: a process that takes fixes from the broker and tells dashboards. The daemon, or the peer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.benchmarks.site import Site
from tests.kit.daemon import Running, external, started, write_settings
from tests.kit.metrics import conserved
from tests.kit.servers import free_port
from tests.kit.tokens import SECRET

Sections = Mapping[str, Mapping[str, object]]
START_S = 120.0
STOP_S = 60.0
READY_POLL_S = 0.005


@attrs.frozen
class Subject:
    """One such process."""

    running: Running
    dialect: str  # of its dashboards: a key of websocket.DIALECTS
    database: str

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.running.process

    @property
    def port(self) -> int:
        return self.running.port

    def cpu_s(self) -> float:
        """User and system time of all its threads, to the nanosecond; its children's not included."""
        # clock_getcpuclockid(3) of the C library, which Python does not offer for other processes.
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def memory_mib(self, field: str = "VmRSS") -> float:
        """Resident now; `VmHWM`: the most that ever was."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"no {field}")

    def passes_held(self) -> float:
        """Passes of the loop beyond 50 ms, so far; 0 of a daemon that does not count them."""
        seen = self.running.metrics()
        every, short = (seen.get(f'tracking_loop_stall_seconds_bucket{{le="{le}"}}', 0.0) for le in ("+Inf", "0.05"))
        return every - short

    def settle(self, messages: int) -> float:
        """That many messages were published for it since its start: all are taken and acknowledged, and the books
        balance. Returns how many fixes were taken or written again, because an answer was late or did not come."""
        seen = self.running.settled(messages)
        received, acks = seen["tracking_messages_received_total"], seen["tracking_acks_total"]
        assert received > messages or acks == messages, f"{messages} published, {received} taken, {acks} acknowledged"
        assert conserved(seen), seen
        return seen["tracking_fixes_duplicate_total"]


@attrs.frozen
class Place:
    """Settings and a data_dir, in which a daemon can be started several times."""

    settings: Path
    port: int
    database: str
    program: Path

    @contextmanager
    def daemon(self) -> Iterator[Subject]:
        """Ready for fixes. At the end it is stopped, and then its exit code must be 0."""
        with started(self.settings, self.port, program=[str(self.program)]) as running:
            running.until_ready(START_S, READY_POLL_S)
            yield Subject(running, "daemon", self.database)
            assert running.stop(within_s=STOP_S) == 0, running.log[-3000:]


def place(folder: Path, sections: Sections, program: Path, database: str = "") -> Place:
    """A new one, for settings that name no port."""
    folder.mkdir()
    port = free_port()
    found: dict[str, dict[str, object]] = {"app": {"port": port}, "ws": {"port": port, "auth_secret": SECRET}}
    for name, keys in sections.items():
        found[name] = {**found.get(name, {}), **keys}
    return Place(write_settings(folder, found), port, database, program)


def daemon_place(site: Site, folder: Path, database: str, sections: Sections) -> Place:
    """A new one for a daemon with the servers of the site."""
    found = external(site.broker.port, site.redis_address, site.database(database), 0)
    for name in ("app", "ws"):
        del found[name]
    for name, keys in sections.items():
        found.setdefault(name, {}).update(keys)
    return place(folder, found, site.program, database)
