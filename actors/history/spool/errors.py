"""How SQLite and the system say what is wrong with the spool."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from actors.core.errors import SpoolFull, SpoolUnavailable


@contextlib.contextmanager
def troubles(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors as ours; a fault in our use of SQLite (its other classes) stays one."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if result_code(error) == sqlite3.SQLITE_FULL:
            raise SpoolFull(f"no space left on the disk of spool {path}") from error
        if type(error) is sqlite3.DatabaseError or isinstance(error, sqlite3.OperationalError):
            raise SpoolUnavailable(f"spool {path}: {error}") from error
        raise
    except OSError as error:
        kind = SpoolFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else SpoolUnavailable
        raise kind(f"spool {path}: {error.strerror}") from error


def result_code(error: sqlite3.DatabaseError) -> int:
    """The primary one (sqlite.org/rescode.html); 0 for what Python itself raised."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
