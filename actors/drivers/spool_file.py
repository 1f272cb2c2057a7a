"""The file of the spool: SQLite with a write-ahead log, synced at every commit. Blocking; for one thread at a time.

The lock on the file is exclusive, so there is no shared-memory file, whose growth on a full disk ends in SIGBUS.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import structlog

from actors.core.fix import Fix, Rejection
from actors.core.spooled import fix_of, fix_row, rejection_of, rejection_row, runs
from actors.drivers import spool_sql as sql
from actors.errors import SpoolFull, SpoolUnavailable

log = structlog.get_logger("spool")

PAGE_BYTES = 4096
FRAME_BYTES = PAGE_BYTES + 24  # a page in the log (sqlite.org/fileformat2.html, section 4)
LOG_PAGES = 4000  # the log is written back beyond these 16 MiB: not sooner, as it holds the same pages many times
CACHE_KIB = 8192
SMALL_BYTES = 1024 * 1024  # an empty file up to this size is not worth shrinking
LOCKED_S = 2.0  # wait for somebody who looks into the file while we open it
# One row changes its page in the table, in two indexes and in the participants; a page that splits is counted there.
PAGES_A_ROW = 4
ANY_SKEW_MS = 1 << 60
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@attrs.frozen
class SpooledBatch:
    """The oldest rows of the spool, each kind in the order of arrival."""

    keys: tuple[int, ...]  # of all fixes and rejections in it, for `remove`
    fixes: tuple[Fix, ...]
    rejections: tuple[Rejection, ...]


class SpoolFile:
    """See Spool for what the calls promise."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._log_path = Path(f"{path}-wal")
        self._max_bytes = max_bytes
        self._log_pages = max(16, min(LOG_PAGES, max_bytes // 16 // PAGE_BYTES))
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[tuple[int, int], ...] = ()  # (device, inode) of the file and its log
        self._next_key = 1  # never falls: a key removed twice must not meet a newer row
        self.rows = 0  # fixes and rejections that are durable here
        self.size = 0  # bytes on disk with the log, after the last call

    def open(self) -> int:
        """Create or open; how many rows are in it."""
        with self._troubles():
            return self._open()

    def put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> int:
        """Durable on return; how many were new."""
        with self._troubles():
            if self._open_one() and self._identity() != self._opened:
                self._reopen()
            try:
                return self._put(fixes, rejections)
            except SpoolFull:
                if not _size(self._log_path):
                    raise
            self._select("PRAGMA wal_checkpoint(TRUNCATE)")  # the log keeps the size of the largest change
            return self._put(fixes, rejections)

    def oldest(self, limit: int) -> SpooledBatch:
        """At most `limit` rows."""
        with self._troubles():
            fixes, rejections = self._select(sql.OLDEST, limit), self._select(sql.OLDEST_REJECTIONS, limit)
        keys = sorted([row[0] for row in fixes] + [row[0] for row in rejections])[:limit]
        last = keys[-1] if keys else 0
        return SpooledBatch(
            tuple(keys),
            tuple(fix_of(row) for row in fixes if row[0] <= last),
            tuple(rejection_of(row) for row in rejections if row[0] <= last),
        )

    def remove(self, keys: Sequence[int]) -> None:
        """Once it is empty, the file and its log shrink to almost nothing."""
        with self._troubles():
            gone = 0
            with self._transaction() as connection:
                for run in runs(keys):
                    for statement in (sql.REMOVE_FIXES, sql.REMOVE_REJECTIONS):
                        gone += connection.execute(statement, run).rowcount
                if gone == self.rows:
                    connection.execute(sql.REMOVE_PARTICIPANTS)
            self.rows -= gone
            if gone and not self.rows:
                self._shrink()

    def newest(self, race_id: str, max_clock_skew_ms: int | None) -> list[Fix]:
        """The greatest of each participant."""
        skew_ms = ANY_SKEW_MS if max_clock_skew_ms is None else max_clock_skew_ms
        with self._troubles():
            return [fix_of(row) for row in self._select(sql.NEWEST, race_id, skew_ms)]

    def close(self) -> None:
        """Once more is once too many, but harmless."""
        with self._troubles():
            self._close()

    # --- opening -------------------------------------------------------------------------------------------------

    def _open(self) -> int:
        self._close()
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._path.chmod(0o600)  # SQLite gives its log the same mode
        if not _size(self._path) and _size(self._log_path):  # SQLite would delete that log
            self._put_aside("the file is empty, its log is not")
            return self._open()
        connection = sqlite3.connect(self._path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False)
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            try:
                self._prepare(connection)
            except sqlite3.DatabaseError as error:
                if _code(error) not in DAMAGED:
                    raise
                self._put_aside(str(error))  # before it is closed: closing writes the log into the file
                stack.close()
                return self._open()
            _sync_folder(self._path.parent)
            stack.pop_all()
        self._connection = connection
        self._opened = self._identity()
        ((self.rows, last_key),) = self._select(sql.COUNTED)
        self._next_key = max(self._next_key, last_key + 1)
        return self.rows

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Settings of the connection, a look at the whole file (about a second a GiB), the tables."""
        connection.executescript(
            f"PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = {PAGE_BYTES}; PRAGMA cache_size = -{CACHE_KIB};"
            "PRAGMA temp_store = MEMORY; PRAGMA secure_delete = OFF; PRAGMA synchronous = FULL;"
        )
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise SpoolUnavailable(f"spool {self._path}: this file system takes no write-ahead log ({mode})")
        connection.execute(f"PRAGMA wal_autocheckpoint = {self._log_pages}").fetchall()
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            damage = sqlite3.DatabaseError(found)
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > sql.VERSION:
            raise SpoolUnavailable(f"spool {self._path} was made by a later version: drain it with that one")
        connection.executescript(sql.TABLES)

    def _put_aside(self, why: str) -> None:
        """Rename the file and its log, which belong together."""
        number = 1
        while (aside := Path(f"{self._path}.damaged-{number}")).exists():
            number += 1
        for suffix in ("-wal", "-journal", ""):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._path}{suffix}", f"{aside}{suffix}")
        log.error(
            "the spool is damaged and was put aside, a new one begins",
            why=why,
            file=str(aside),
            what_to_do=f"its fixes may be missing in history: once the new spool is drained, stop the daemon, delete "
            f"{self._path}, run `sqlite3 {aside} .recover | sqlite3 {self._path}`, start the daemon",
        )

    def _reopen(self) -> None:
        """Somebody removed the file under us: what is written now would be gone with the process."""
        if self.rows:
            raise SpoolUnavailable(f"spool {self._path} was removed or replaced: takes no more until it is drained")
        log.error("the spool was removed while it was open, a new one begins", file=str(self._path))
        self._open()

    def _identity(self) -> tuple[tuple[int, int], ...]:
        with contextlib.suppress(FileNotFoundError):
            return tuple((at.st_dev, at.st_ino) for at in (self._path.stat(), self._log_path.stat()))
        return ()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # --- reading and writing -------------------------------------------------------------------------------------

    def _open_one(self) -> sqlite3.Connection:
        if self._connection is None:
            raise SpoolUnavailable(f"spool {self._path} is not open")
        return self._connection

    def _select(self, query: str, *arguments: object) -> list[Any]:
        return self._open_one().execute(query, arguments).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._open_one()
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
        log_bytes = max(_size(self._log_path), self._log_pages * FRAME_BYTES) + min(pages, in_file) * FRAME_BYTES
        if in_file * PAGE_BYTES + log_bytes > self._max_bytes:
            raise SpoolFull(f"spool {self._path} is full: {self.rows} rows, at most {self._max_bytes} bytes")

    def _shrink(self) -> None:
        """The rows are gone whatever becomes of this."""
        try:
            ((pages,),) = self._select("PRAGMA page_count")
            if pages * PAGE_BYTES > SMALL_BYTES:
                self._open_one().execute("VACUUM")
            self._select("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            log.warning("the empty spool could not be made smaller", why=str(error))

    @contextlib.contextmanager
    def _troubles(self) -> Iterator[None]:
        """SQLite's and the system's errors as ours; a fault in our use of SQLite (its other classes) stays one."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _code(error) == sqlite3.SQLITE_FULL:
                raise SpoolFull(f"no space left on the disk of spool {self._path}") from error
            if type(error) is sqlite3.DatabaseError or isinstance(error, sqlite3.OperationalError):
                raise SpoolUnavailable(f"spool {self._path}: {error}") from error
            raise
        except OSError as error:
            kind = SpoolFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else SpoolUnavailable
            raise kind(f"spool {self._path}: {error.strerror}") from error
        finally:
            self.size = _size(self._path) + _size(self._log_path)


def _code(error: sqlite3.DatabaseError) -> int:
    """The primary result code (sqlite.org/rescode.html); 0 for what Python itself raised."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _size(path: Path) -> int:
    """0 where there is none, or no way to it."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sync_folder(folder: Path) -> None:
    """So that the names of new and renamed files are durable, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
