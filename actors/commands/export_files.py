"""What an export is written to: one file or stream, or a file a participant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from actors.core.errors import TrackingError
from actors.core.file_name import file_name, on_disk
from actors.core.fix import Fix
from actors.history.export import formatter


class OutputFailed(TrackingError):
    """The file or folder cannot be written."""


class OneFile:
    """All fixes into an open file."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._formatter = formatter(name)
        self._header = self._formatter.header()  # empty once it was written, with the first fixes
        self.by_participant = self._formatter.by_participant
        self.to_terminal = file.isatty()

    def write(self, fixes: Sequence[Fix]) -> None:
        """In the order that `by_participant` says."""
        self._file.write(self._header + self._formatter.chunk(fixes))
        self._header = b""

    def end(self) -> None:
        """Everything was written."""
        self._file.write(self._header + self._formatter.footer())
        self._file.flush()


class FileEach:
    """A file a participant, one open at a time; `opened` closes it."""

    by_participant = True
    to_terminal = False

    def __init__(self, folder: Path, name: str, opened: ExitStack) -> None:
        self._folder = folder
        self._name = name
        self._opened = opened
        self._participant: str | None = None  # whose file is open
        self._names: set[str] = set()  # given to files, some 100 bytes a participant
        self._file: OneFile | None = None

    def write(self, fixes: Sequence[Fix]) -> None:
        """Ordered by participant."""
        for participant, group in groupby(fixes, key=lambda fix: fix.participant_id):
            if participant != self._participant or self._file is None:
                self.end()
                name = f"{file_name(participant, self._names)}.{formatter(self._name).extension}"
                self._file = OneFile(self._opened.enter_context(whole_file(self._folder / on_disk(name))), self._name)
                self._participant = participant
            self._file.write(list(group))

    def end(self) -> None:
        """The file under way is complete."""
        if self._file is not None:
            self._file.end()
            self._opened.pop_all().close()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that appears under its name only when it is complete; a device or pipe is written as it stands."""
    special = path.exists() and not path.is_file()
    part = path if special else path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file, _left_behind(None if special else part):
            yield file
            file.close()  # here, so that what is still buffered is on the disk, or fails, before it gets its name
            if not special:
                part.replace(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"cannot write {path}: {error.strerror}") from None


@contextmanager
def _left_behind(part: Path | None) -> Iterator[None]:
    """Removes it where it did not become the file."""
    try:
        yield
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def made_folder(path: Path) -> Path:
    """The folder, made where it is missing. Raises OutputFailed."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot make the folder {path}: {error.strerror}") from None
    return path
