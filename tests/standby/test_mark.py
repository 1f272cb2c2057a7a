"""The mark of the node that read last."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.standby.mark import FILE_NAME, LastReaderMark


def test_it_outlives_the_daemon(tmp_path: Path) -> None:
    mark = LastReaderMark(tmp_path, "us")
    assert not mark.is_set
    mark.set(True)
    mark.set(True)
    assert LastReaderMark(tmp_path, "us").is_set
    assert not LastReaderMark(tmp_path, "others").is_set, "of another session at the broker"
    mark.set(False)
    mark.set(False)
    assert not LastReaderMark(tmp_path, "us").is_set
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = LastReaderMark(tmp_path / "none", "us")
    mark.set(True)
    assert mark.is_set
    assert "cannot note whether this node read last" in capsys.readouterr().out


def test_what_is_no_mark_is_none(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xff")
    assert not LastReaderMark(tmp_path, "us").is_set
