"""Reads from a damaged spool what can still be read, and leaves it as it is."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.history.spool import sql
from actors.history.spool.open import log_of, size_of
from actors.history.spool.rows import fix_of, rejection_of

CHUNK_ROWS = 1000
STEP_KEYS = 8  # a page of fixes holds some 60
STEPS = 32  # of one size; then the hole is large, and the steps become so
LAST_KEY = 2**63 - 1


def rescue(file: Path) -> Iterator[tuple[list[Fix], list[Rejection]]]:
    """Parts of at most CHUNK_ROWS rows, each kind in the order of arrival. Never raises sqlite3.DatabaseError."""
    if not size_of(file):  # SQLite would delete the log beside it
        return
    try:
        with contextlib.closing(_opened(file)) as connection:
            for chunk in _chunks(connection, sql.OLDEST):
                yield [fix_of(row) for row in chunk], []
            for chunk in _chunks(connection, sql.OLDEST_REJECTIONS):
                yield [], [rejection_of(row) for row in chunk]
    finally:
        Path(f"{file}-shm").unlink(missing_ok=True)
        if not size_of(log_of(file)):  # made by reading
            log_of(file).unlink(missing_ok=True)


def _opened(file: Path) -> sqlite3.Connection:
    """Read-only, so that closing it does not write the log into the file."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _chunks(connection: sqlite3.Connection, query: str) -> Iterator[list[Any]]:
    """Goes around what is damaged, in small steps first."""
    after = failed = 0
    while after < LAST_KEY:
        chunk: list[Any] = []
        try:
            for row in connection.execute(query, (after, CHUNK_ROWS)):
                chunk.append(row)  # noqa: PERF402 - what came before an error counts
        except sqlite3.DatabaseError:
            failed = 0 if chunk else failed + 1
            after = min((chunk[-1][0] if chunk else after) + (STEP_KEYS << failed // STEPS), LAST_KEY)
        else:
            after = chunk[-1][0] if chunk else LAST_KEY
        if chunk:
            yield chunk
