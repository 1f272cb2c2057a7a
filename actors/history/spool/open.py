"""Opens the file of the spool, or begins a new one; a damaged file is renamed, never deleted.

The lock on the file is exclusive, so there is no shared-memory file, whose growth on a full disk ends in SIGBUS.
"""

from __future__ import annotations

import contextlib
import glob
import os
import sqlite3
from pathlib import Path

from actors.core.errors import SpoolUnavailable
from actors.history.spool import sql
from actors.history.spool.errors import result_code

PAGE_BYTES = 4096
CACHE_KIB = 8192
UNREAD = ".unread"  # ends the name of an empty file beside a damaged one
LOCKED_S = 2.0  # wait for somebody who looks into the file while we open it
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log beside a file."""
    return Path(f"{path}-wal")


def size_of(path: Path) -> int:
    """Bytes; 0 where there is none, or no way to it."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def open_file(path: Path, log_pages: int) -> tuple[sqlite3.Connection, tuple[Path, str] | None]:
    """The connection, and where a damaged file went, if there was one, with what was wrong with it.

    `log_pages`: a log larger than this is written back to the file. Raises sqlite3.DatabaseError, OSError,
    SpoolUnavailable.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)  # SQLite gives its log the same mode
    if not size_of(path) and size_of(log_of(path)):  # SQLite would delete that log
        aside = put_aside(path)
        return open_file(path, log_pages)[0], (aside, "the file is empty, its log is not")
    connection = sqlite3.connect(path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path, log_pages)
    except sqlite3.DatabaseError as error:
        if result_code(error) not in DAMAGED:
            connection.close()
            raise
        # Renamed before it is closed, and closed before a new one begins: closing writes the log into the file and
        # deletes what has the log's name.
        aside = put_aside(path)
        connection.close()
        return open_file(path, log_pages)[0], (aside, str(error))
    except SpoolUnavailable:
        connection.close()
        raise
    _sync(path.parent)
    return connection, None


def put_aside(path: Path) -> Path:
    """Rename the file and its log, which belong together; its new name. It counts as unread until `mark_read`."""
    number = 1
    while (aside := Path(f"{path}.damaged-{number}")).exists():
        number += 1
    _mark(aside).touch(0o600)  # first: we may be killed before all that can be read has moved over
    _sync(path.parent)
    for suffix in ("-wal", "-journal", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def unread(path: Path) -> list[Path]:
    """Damaged files that were put aside, and whose rows have not all moved over."""
    marks = path.parent.glob(f"{glob.escape(path.name)}.damaged-*{UNREAD}")
    return sorted(aside for mark in marks if (aside := mark.with_suffix("")).exists())


def mark_read(aside: Path) -> None:
    """What can be read of it has moved over."""
    _mark(aside).unlink(missing_ok=True)


def _mark(aside: Path) -> Path:
    return Path(f"{aside}{UNREAD}")


def _prepare(connection: sqlite3.Connection, path: Path, log_pages: int) -> None:
    """Settings of the connection, a look at the whole file (about 0.2 s for 100 MiB), the tables."""
    connection.executescript(
        f"PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = {PAGE_BYTES}; PRAGMA cache_size = -{CACHE_KIB};"
        "PRAGMA temp_store = MEMORY; PRAGMA secure_delete = OFF; PRAGMA synchronous = FULL;"
    )
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise SpoolUnavailable(f"spool {path}: this file system takes no write-ahead log ({mode})")
    connection.execute(f"PRAGMA wal_autocheckpoint = {log_pages}").fetchall()
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        damage = sqlite3.DatabaseError(found)
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > sql.VERSION:
        raise SpoolUnavailable(f"spool {path} was made by a later version: drain it with that one")
    connection.executescript(sql.TABLES)


def _sync(folder: Path) -> None:
    """So that the names of new and renamed files are durable, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
