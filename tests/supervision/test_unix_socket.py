"""A listening Unix socket for its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import trio

from actors.core.errors import NotStarted
from actors.supervision.unix_socket import listen, remove


async def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with listen(tmp_path / "x.sock"):
            mode = os.stat(tmp_path / "x.sock").st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            assert os.umask(0) == 0, "the umask of the process was changed"
    finally:
        os.umask(old)


async def test_a_socket_left_by_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with trio.socket.socket(trio.socket.AF_UNIX) as left:
        await left.bind(str(path))
    async with listen(path), await trio.open_unix_socket(path):
        pass
    remove(path)
    assert not path.exists()


async def test_what_is_no_socket_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("somebody's file")
    with pytest.raises(NotStarted, match=r"x\.sock"):
        listen(path)
    remove(path)
    assert path.read_text() == "somebody's file"
