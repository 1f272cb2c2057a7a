"""Rows in and out of the file of the spool. Every commit is synced. Blocking; for one thread at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog

from actors.core.errors import SpoolFull, SpoolUnavailable, Unavailable
from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.history.spool import sql
from actors.history.spool.errors import troubles
from actors.history.spool.open import PAGE_BYTES, log_of, mark_read, open_file, size_of, unread
from actors.history.spool.rescue import LAST_KEY, rescue
from actors.history.spool.rows import SpooledBatch, fix_of, fix_row, rejection_of, rejection_row, runs

log = structlog.get_logger("spool")

FRAME_BYTES = PAGE_BYTES + 24  # a page in the log (sqlite.org/fileformat2.html, section 4)
LOG_PAGES = 4000  # the log is written back beyond these 16 MiB: not sooner, as it holds the same pages many times
SMALL_BYTES = 1024 * 1024  # an empty file up to this size is not worth a new one
# One row changes its page in the table, in two indexes and in the participants; a page that splits is counted there.
PAGES_A_ROW = 4


class SpoolFile:
    """See Spool for what the calls promise."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._log_pages = max(16, min(LOG_PAGES, max_bytes // 16 // PAGE_BYTES))
        self._wanted = False  # between open and close
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[tuple[int, int], ...] = ()  # (device, inode) of the file and its log
        self._next_key = 1  # never falls: a key removed twice must not meet a newer row
        # Rows up to this key are drained, but the disk was too full to delete them. Forgotten by a crash: they are
        # drained once more then, and are duplicates.
        self._drained_to = 0
        self.rows = 0  # fixes and rejections that are durable here

    def open(self) -> int:
        """Create or open; how many rows are in it."""
        with troubles(self._path):
            self._close()
            self._open()
            self._wanted = True
            return self.rows

    def put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> int:
        """Durable on return; how many were new."""
        with troubles(self._path):
            self._ready()
            if self._identity() != self._opened:
                self._replace_removed()
            try:
                return self._put(fixes, rejections)
            except SpoolFull:
                if not size_of(log_of(self._path)):
                    raise
            self._select("PRAGMA wal_checkpoint(TRUNCATE)")  # the log keeps the size of the largest change
            return self._put(fixes, rejections)

    def oldest(self, limit: int, after: int) -> SpooledBatch:
        """At most `limit` rows."""
        after = max(after, self._drained_to)
        with troubles(self._path):
            fixes = self._select(sql.OLDEST, after, limit)
            rejections = self._select(sql.OLDEST_REJECTIONS, after, limit)
        keys = sorted([row[0] for row in fixes] + [row[0] for row in rejections])[:limit]
        last = keys[-1] if keys else 0
        fixes = [row for row in fixes if row[0] <= last]
        return SpooledBatch(
            tuple(keys),
            tuple(row[0] for row in fixes),
            tuple(fix_of(row) for row in fixes),
            tuple(rejection_of(row) for row in rejections if row[0] <= last),
        )

    def remove(self, keys: Sequence[int]) -> None:
        """Once it is empty, the file and its log shrink to almost nothing."""
        found = runs(keys)
        if not found:
            return
        with troubles(self._path):
            try:
                gone = self._delete(found)
            except sqlite3.OperationalError as error:
                gone = self._skip(found, error)
            self.rows -= gone
            if gone and not self.rows and not self._count(self._drained_to + 1, LAST_KEY):
                self._shrink()

    def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]:
        """The greatest of each participant."""
        with troubles(self._path):
            return [fix_of(row) for row in self._select(sql.NEWEST, race_id, max_clock_skew_ms, self._drained_to)]

    def newest_of_races(
        self, race_ids: Sequence[str], max_clock_skew_ms: int, within_s: float
    ) -> dict[str, list[Fix] | None]:
        """By race. None is begun after so many seconds but the first."""
        end = time.monotonic() + within_s
        found: dict[str, list[Fix] | None] = {}
        for race_id in race_ids:
            found[race_id] = self.newest(race_id, max_clock_skew_ms)
            if time.monotonic() > end:
                break
        return found

    def close(self) -> None:
        """Harmless when it is closed."""
        with troubles(self._path):
            self._wanted = False
            self._close()

    # --- opening -------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._connection, damaged = open_file(self._path, self._log_pages)
        self._opened = self._identity()
        self._drained_to = 0
        ((last_key,),) = self._select(sql.LAST_KEY)
        self._next_key = max(self._next_key, last_key + 1)
        self.rows = self._count(0, LAST_KEY)
        for file in unread(self._path):
            self._rescue(file, damaged[1] if damaged and file == damaged[0] else "see the log of an earlier start")

    def _rescue(self, file: Path, damage: str) -> None:
        left = ""
        try:
            for fixes, rejections in rescue(file):
                self._put(fixes, rejections)
        except (sqlite3.OperationalError, Unavailable) as error:
            left = f" before this happened: {error}"
        mark_read(file)
        log.error(
            "the spool was damaged: a new one begins with what could be read of it" + left,
            rescued=self.rows,
            damage=damage,
            file=str(file),
            what_to_do="compare history with the trackers; the damaged file is kept: `.recover` of a recent sqlite3 "
            "may read more of it; delete it when it is not needed",
        )

    def _replace_removed(self) -> None:
        """Somebody removed the file under us: what is written now would be gone with the process."""
        if self.rows:
            raise SpoolUnavailable(f"spool {self._path} was removed or replaced: takes no more until it is drained")
        log.error("the spool was removed while it was open, a new one begins", file=str(self._path))
        self._close()
        self._open()

    def _identity(self) -> tuple[tuple[int, int], ...]:
        with contextlib.suppress(FileNotFoundError):
            return tuple((at.st_dev, at.st_ino) for at in (self._path.stat(), log_of(self._path).stat()))
        return ()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ready(self) -> sqlite3.Connection:
        """Opens it again where a new file could not be begun."""
        if self._connection is None and self._wanted:
            self._open()
        if self._connection is None:
            raise SpoolUnavailable(f"spool {self._path} is not open")
        return self._connection

    # --- reading and writing -------------------------------------------------------------------------------------

    def _select(self, query: str, *arguments: object) -> list[Any]:
        return self._ready().execute(query, arguments).fetchall()

    def _count(self, first: int, last: int) -> int:
        count: int = self._select(sql.COUNT, first, last)[0][0]
        return count

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._ready()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:  # it failed, and SQLite has not rolled back by itself
                connection.execute("ROLLBACK")

    def _put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> int:
        key, new = self._next_key, 0
        pages = PAGES_A_ROW * (len(fixes) + len(rejections))
        pages += sum(len(each.payload) for each in rejections) // PAGE_BYTES
        with self._transaction() as connection:
            names = {(fix.race_id, fix.participant_id) for fix in fixes}
            connection.executemany(sql.PUT_PARTICIPANT, names)
            fix_rows = (fix_row(at, fix) for at, fix in enumerate(fixes, key))
            new += connection.executemany(sql.PUT_FIX, fix_rows).rowcount
            key += len(fixes)
            rejection_rows = (rejection_row(at, each) for at, each in enumerate(rejections, key))
            new += connection.executemany(sql.PUT_REJECTION, rejection_rows).rowcount
            key += len(rejections)
            self._fit(pages)
        self._next_key = key
        self.rows += new
        return new

    def _fit(self, pages: int) -> None:
        """Before a commit that changes at most so many pages, each of which becomes one frame of the log."""
        ((in_file,),) = self._select("PRAGMA page_count")
        in_log = max(size_of(log_of(self._path)), self._log_pages * FRAME_BYTES) + min(pages, in_file) * FRAME_BYTES
        if in_file * PAGE_BYTES + in_log > self._max_bytes:
            raise SpoolFull(f"spool {self._path} is full: {self.rows} rows, at most {self._max_bytes} bytes")

    def _delete(self, found: list[tuple[int, int]]) -> int:
        gone = 0
        with self._transaction() as connection:
            for statement in (sql.REMOVE_FIXES, sql.REMOVE_REJECTIONS):
                connection.execute(statement, (0, self._drained_to))  # are no longer counted
                gone += sum(connection.execute(statement, run).rowcount for run in found)
            if gone == self.rows:
                connection.execute(sql.REMOVE_PARTICIPANTS)
        self._drained_to = 0
        return gone

    def _skip(self, found: list[tuple[int, int]], trouble: sqlite3.OperationalError) -> int:
        """Deleting takes space: on a full disk the oldest are only remembered as drained, so that draining goes on."""
        first, last = self._drained_to + 1, found[-1][1]
        gone = sum(self._count(max(first, start), end) for start, end in found)
        if gone != self._count(first, last):
            raise trouble
        if not self._drained_to:
            log.warning("drained rows cannot be deleted yet", file=str(self._path), why=str(trouble))
        self._drained_to = max(self._drained_to, last)
        return gone

    def _shrink(self) -> None:
        """It is empty. A new file, where the old one is large or takes no changes; a failure hurts nobody."""
        try:
            if self._drained_to or size_of(self._path) + size_of(log_of(self._path)) > SMALL_BYTES:
                self._close()
                self._path.unlink(missing_ok=True)
                log_of(self._path).unlink(missing_ok=True)
                self._open()
            else:
                self._select("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.OperationalError, OSError, Unavailable) as error:
            log.warning("the empty spool could not be made smaller yet", file=str(self._path), why=str(error))
