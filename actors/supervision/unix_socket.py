"""A listening Unix socket that only its owner can connect to."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import trio

from actors.core.errors import NotStarted

BACKLOG = 128  # connections that wait to be accepted


def listen(path: Path) -> trio.SocketListener:
    """A listener at `path`, mode 0600; a socket that a killed daemon left there is replaced.

    Raises NotStarted when something else is at the path or it cannot be used.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        remove(path)
        sock.bind(os.fspath(path))
        # Nobody can connect between bind and listen, so there is no moment with the umask's mode.
        os.chmod(path, 0o600)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise NotStarted(f"cannot listen on the Unix socket {path}: {error}") from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def remove(path: Path) -> None:
    """Remove the socket at `path`, if there is one; never anything else."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
