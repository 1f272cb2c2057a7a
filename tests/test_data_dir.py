"""data_dir belongs to one daemon and to one user."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.core.addresses import UNIX_PATH_BYTES
from actors.core.errors import NotStarted
from actors.data_dir import digest, open_data_dir, short_folder, socket_path, write_private

SOMEBODY = 54_321  # a uid of nobody in particular


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A data_dir too deep for Unix sockets; what it makes under /tmp is removed."""
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    folder.mkdir(parents=True)
    yield folder
    for made in Path("/tmp").glob(f"race-tracking-*-{digest(folder)}"):
        if made.is_symlink():
            made.unlink()
        else:
            shutil.rmtree(made)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_us_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_data_dir(Path("a/var")) as opened:
        assert opened.folder == tmp_path / "a" / "var"
        assert opened.path("x") == tmp_path / "a" / "var" / "x"
        assert mode(opened.folder) == 0o700
        assert mode(opened.path("lock")) == 0o600


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    (tmp_path / "kept").write_text("x")
    with open_data_dir(tmp_path) as opened:
        assert mode(tmp_path) == 0o750
        assert opened.path("kept").read_text() == "x"


def test_a_second_daemon_is_told_so_in_one_line(tmp_path: Path) -> None:
    with open_data_dir(tmp_path):
        with pytest.raises(NotStarted) as refused, open_data_dir(tmp_path):
            pass
        assert str(refused.value) == (
            f"another daemon uses data_dir {tmp_path}: stop it, or set another [app] data_dir"
        )
    with open_data_dir(tmp_path):
        pass


def test_a_lock_is_kept_when_a_second_daemon_was_refused(tmp_path: Path) -> None:
    with open_data_dir(tmp_path):
        for _ in range(2):
            with pytest.raises(NotStarted), open_data_dir(tmp_path):
                pass


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "file/var"):
        with pytest.raises(
            NotStarted, match=rf"^\[app\] data_dir .*/{name} cannot be used \(Not a directory\): set it "
        ):
            open_data_dir(tmp_path / name).__enter__()


def test_a_short_socket_path_is_in_it() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir("/tmp")
        assert socket_path(Path("var"), "x.sock") == Path("/tmp/var/x.sock")


@pytest.mark.parametrize("letter", ["d", "é"])
def test_the_limit_counts_bytes(letter: str, tmp_path: Path) -> None:
    room = UNIX_PATH_BYTES - len(os.fsencode(tmp_path / "x" / "s.sock")) + 1
    fits = tmp_path / (letter * (room // len(letter.encode())))
    longer = fits.with_name(fits.name + letter)
    fits.mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fsencode(socket_path(fits, "s.sock")))
    assert socket_path(fits, "s.sock").parent == fits
    outside = socket_path(longer, "s.sock")
    outside.parent.rmdir()
    assert outside.parent == Path("/tmp") / f"race-tracking-{os.geteuid()}-{digest(longer)}"


def test_a_deep_data_dir_has_a_short_folder_of_its_own(deep: Path, tmp_path: Path) -> None:
    path = socket_path(deep, "control.sock")
    assert len(os.fsencode(path)) <= UNIX_PATH_BYTES
    assert mode(path.parent) == 0o700
    assert path.parent.stat().st_uid == os.geteuid()
    assert socket_path(deep, "control.sock") == path
    assert socket_path(deep, "http.sock").parent == path.parent
    assert digest(deep) != digest(tmp_path)


@pytest.mark.parametrize("opened_to", [0o750, 0o701, 0o777])
def test_a_short_folder_that_others_may_enter_is_refused(opened_to: int, deep: Path) -> None:
    folder = short_folder(deep, os.geteuid())
    folder.chmod(opened_to)
    with pytest.raises(NotStarted, match=f"{folder} belongs to somebody else"):
        socket_path(deep, "control.sock")
    assert mode(folder) == opened_to


def test_a_link_in_its_place_is_refused(deep: Path, tmp_path: Path) -> None:
    folder = short_folder(deep, os.geteuid())
    folder.rmdir()
    (tmp_path / "theirs").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(NotStarted, match="belongs to somebody else"):
        socket_path(deep, "control.sock")


def test_a_folder_of_another_user_is_refused(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = short_folder(deep, os.geteuid())
    if os.geteuid() == 0:
        os.chown(folder, SOMEBODY, -1)
    else:
        # As seen by another user: who may not give it away sees the same refusal from the other side.
        folder = folder.rename(folder.with_name(f"race-tracking-{SOMEBODY}-{digest(deep)}"))
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    with pytest.raises(NotStarted, match="belongs to somebody else"):
        socket_path(deep, "control.sock")


def test_a_folder_for_another_user_is_given_away_also_after_a_kill(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "chown", lambda *what, **_how: given.append(what))
    folder = short_folder(deep, SOMEBODY)
    assert folder.name == f"race-tracking-{SOMEBODY}-{digest(deep)}"
    assert given == [(folder, SOMEBODY, -1)]
    short_folder(deep, SOMEBODY)  # chown did nothing here: as if the daemon had been killed before it
    assert given == [(folder, SOMEBODY, -1)] * 2


def test_a_private_file_is_whole_and_ours(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("an older and longer one")
    path.chmod(0o644)
    write_private(path, "né\n")
    assert path.read_bytes() == b"n\xc3\xa9\n"
    assert mode(path) == 0o600
    assert os.listdir(tmp_path) == ["secret"]
    write_private(path, "data \udce9")
    assert path.read_bytes() == b"data \xe9", "the name of a folder that is not UTF-8"


def test_a_private_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["secret"]
