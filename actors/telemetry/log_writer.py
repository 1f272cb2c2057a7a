"""Log lines to stderr from a thread of their own: a full pipe or a closed terminal delays nobody but this thread.

Making stderr non-blocking instead would change it for the shell that shares the terminal. The thread is a daemon and
writes to the file descriptor itself: blocked in a system call it holds no lock that the interpreter needs to exit.
"""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable
from typing import TextIO

MAX_LINES = 2000  # waiting; more are dropped and counted
MAX_LINE_BYTES = 16 * 1024  # so at most 32 MiB wait
CHUNK_BYTES = 64 * 1024  # one write
RETRY_S = 1.0  # a descriptor that somebody else made non-blocking is asked again after this long at most


class LogWriter:
    """Takes finished lines from any thread, never blocks, never raises.

    `say_dropped(count)` gives the line that reports lost ones, once lines flow again. `stream` None (stderr was
    closed before the start) drops everything: descriptor 2 may be somebody's database by now.
    """

    def __init__(self, stream: TextIO | None, say_dropped: Callable[[int], str]) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"  # what it lacks becomes a backslash escape
        self._say_dropped = say_dropped
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._unreported = 0
        self.dropped = 0  # lines that nobody will read, ever
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue one line (without its line end), or drop it when the queue is full."""
        if self._lines.qsize() >= MAX_LINES:
            self._drop(1)
            return
        data = line.encode(self._encoding, "backslashreplace")
        if len(data) > MAX_LINE_BYTES:
            data = data[:MAX_LINE_BYTES].decode(self._encoding, "ignore").encode(self._encoding) + b" ..."
        self._lines.put(data + b"\n")

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits, for at most `timeout_s`; a stderr that does not take it is left alone."""
        self._lines.put(None)
        self._thread.join(timeout_s)

    def _drop(self, count: int) -> None:
        with self._lock:
            self.dropped += count
            self._unreported += count

    def _write_all(self) -> None:
        last = False
        while not last:
            lines, last = self._take()
            with self._lock:
                lost, self._unreported = self._unreported, 0
            # What was lost came after the lines that were queued already.
            if lost:
                lines.append(self._say_dropped(lost).encode() + b"\n")
            try:
                self._write(b"".join(lines))
            except (OSError, ValueError):  # gone or closed: ValueError is what a closed stream raises
                with self._lock:
                    self.dropped += len(lines) - bool(lost)
                    self._unreported += len(lines) - bool(lost) + lost

    def _take(self) -> tuple[list[bytes], bool]:
        """Wait for a line, then take what else is there, up to a chunk; True when the end was reached."""
        lines: list[bytes] = []
        size = 0
        line = self._lines.get()
        while line is not None:
            lines.append(line)
            size += len(line)
            if size >= CHUNK_BYTES or self._lines.empty():
                return lines, False
            line = self._lines.get()
        return lines, True

    def _write(self, data: bytes) -> None:
        if self._stream is None:
            raise OSError("there is no stderr")
        if self._fd is None:
            self._stream.write(data.decode(self._encoding))
            self._stream.flush()
            return
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                select.select([], [self._fd], [], RETRY_S)


def _descriptor(stream: TextIO | None) -> int | None:
    """None for a stream without one (io.StringIO): it is written to as it is."""
    if stream is None:
        return None
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
