"""data_dir: what a daemon keeps on its node. It belongs to one daemon at a time, and to nobody else on the machine."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

from actors.core.addresses import UNIX_PATH_BYTES
from actors.core.errors import NotStarted


@attrs.frozen
class DataDir:
    """An open data_dir: locked until the daemon ends."""

    folder: Path  # absolute

    def path(self, name: str) -> Path:
        """Of a file or folder in it."""
        return self.folder / name

    def socket_path(self, name: str) -> Path:
        """See the function of the same name."""
        return socket_path(self.folder, name)


@contextlib.contextmanager
def open_data_dir(folder: Path) -> Iterator[DataDir]:
    """Make it where it is missing (0700) and take its lock. Raises NotStarted in one line."""
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = os.strerror(errno.ENOTDIR) if isinstance(error, FileExistsError) else error.strerror
        raise NotStarted(
            f"[app] data_dir {folder} cannot be used ({reason}): set it to a folder that this user may write to"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotStarted(f"another daemon uses data_dir {folder}: stop it, or set another [app] data_dir") from None
        yield DataDir(folder)
    finally:
        os.close(lock)


def socket_path(data_dir: Path, name: str) -> Path:
    """Where the Unix socket `name` of a data_dir is: in it, or, where that path is too long, in a short folder."""
    inside = data_dir.absolute() / name
    if len(os.fsencode(inside)) <= UNIX_PATH_BYTES:
        return inside
    return short_folder(data_dir, os.geteuid()) / name


def digest(data_dir: Path) -> str:
    """Tells one data_dir from another in the names of folders outside of it."""
    return hashlib.blake2b(os.fsencode(data_dir.absolute()), digest_size=8).hexdigest()


def short_folder(data_dir: Path, owner: int) -> Path:
    """A folder of `owner`, 0700, with a short path that follows from data_dir's; made when it is missing.

    Raises NotStarted when somebody else made it before us: /tmp is everybody's.
    """
    folder = Path("/tmp") / f"race-tracking-{owner}-{digest(data_dir)}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    # Ours and not yet the owner's: just made, or by a root daemon that was killed right here.
    ours = found.st_uid in (owner, os.geteuid())
    if not stat.S_ISDIR(found.st_mode) or not ours or found.st_mode & 0o077:
        raise NotStarted(f"{folder} belongs to somebody else: remove it, or set a shorter [app] data_dir")
    if found.st_uid != owner:
        os.chown(folder, owner, -1, follow_symlinks=False)
    return folder


def write_private(path: Path, text: str, *, over: bool = True) -> None:
    """A file of mode 0600, whole or not at all; one that is there already stays unless `over`. Raises OSError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))  # it may name a folder whose name is not UTF-8
            file.flush()
            os.fsync(file.fileno())
        if over:
            draft.replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
