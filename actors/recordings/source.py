"""The bytes of a file, unpacked, and what kind of recording they are."""

from __future__ import annotations

import gzip
import io
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.recordings.points import CutOff, UnreadableRecording
from actors.recordings.xml_text import encoding_of

CHUNK_BYTES = 64 * 1024
GZIP = b"\x1f\x8b"

KINDS = {".gpx": "GPX", ".jsonl": "JSON lines"}


@contextmanager
def opened(path: Path) -> Iterator[Iterator[bytes]]:
    """Its bytes in pieces, unpacked where it is gzip; closed at the end. Raises UnreadableRecording, CutOff."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise UnreadableRecording(f"{path}: is a pipe, and a recording is read twice")
        with path.open("rb") as file:
            packed = file.peek(len(GZIP)).startswith(GZIP)
            yield _pieces(gzip.GzipFile(fileobj=file) if packed else file)
    except (OSError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UnreadableRecording(f"{path}: cannot be read: {reason}") from error


def _pieces(file: io.BufferedReader | gzip.GzipFile) -> Iterator[bytes]:
    try:
        while piece := file.read1(CHUNK_BYTES):  # unlike read it gives what there is before a broken end
            yield piece
    except EOFError:
        raise CutOff("its gzip stream ends before its end") from None


def kind_of(head: bytes, name: str) -> str | None:
    """What the content says, else the name; None when neither does."""
    start = head.decode(encoding_of(head), "replace").lstrip()[:1]
    if start == "<":
        return "GPX"
    if start in ("{", "["):
        return "JSON lines"
    return KINDS.get(Path(unpacked_name(name)).suffix.lower())


def unpacked_name(name: str) -> str:
    """Without `.gz`."""
    return re.sub(r"\.gz$", "", name, flags=re.IGNORECASE)
