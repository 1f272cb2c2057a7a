"""A damaged spool is kept, what can be read of it moves over, and the daemon goes on with a new one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.history.spool import file as spool_file
from actors.history.spool.rescue import rescue
from actors.history.spool.spool import SpoolOnDisk
from tests.history.spool.spool_child import BATCH, PLENTY, REJECTED, fixes_of, rejections_of
from tests.kit.making import make_fix


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database, whatever it was " * 500)


def _page_overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * 4096 * 20)


def _cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _emptied_beside_its_log(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"the log" * 1000)
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [_garbage, _page_overwritten, _cut_off, _emptied_beside_its_log])
async def test_a_damaged_file_is_put_aside_and_kept(
    tmp_path: Path, damage: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(damage)
    path = tmp_path / "spool.sqlite"
    spool = SpoolOnDisk(path, PLENTY)
    for number in (1, 2):
        await spool.open()
        for batch in range(5):
            await spool.put(fixes_of(batch), rejections_of(batch))
        await spool.aclose()
        damage(path)
        kept = {each.name.removeprefix(path.name): each.read_bytes() for each in tmp_path.glob("spool.sqlite*")}
        assert await spool.open() == spool.rows
        assert await spool.put([make_fix("new")], []) == 1
        await spool.aclose()
        for suffix in ("", "-wal"):
            if suffix in kept:
                assert Path(f"{path}.damaged-{number}{suffix}").read_bytes() == kept[suffix]
        said = capsys.readouterr().out
        assert "level='error'" in said
        assert f"file='{path}.damaged-{number}'" in said
        path.unlink()


async def test_names_are_synced_as_rows_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stops takes along what is synced under a name that is not. No test without a power switch shows
    more than when the folder is synced, and what is in it by then."""
    synced: list[set[str]] = []

    def fsync(descriptor: int) -> None:
        assert os.path.samestat(os.fstat(descriptor), tmp_path.stat())
        synced.append({each.name.removeprefix("spool.sqlite") for each in tmp_path.iterdir()})

    monkeypatch.setattr(os, "fsync", fsync)
    await _filled(tmp_path / "spool.sqlite")
    assert len(synced) == 1
    assert "" in synced[0]
    _garbage(tmp_path / "spool.sqlite")
    spool = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    await spool.open()
    await spool.aclose()
    marked, renamed = synced[1:]
    assert marked == {"", ".damaged-1.unread"}
    assert renamed >= {"", ".damaged-1", ".damaged-1.unread"}


async def _filled(path: Path) -> SpoolOnDisk:
    """With 40 batches, closed."""
    spool = SpoolOnDisk(path, PLENTY)
    await spool.open()
    for batch in range(40):
        await spool.put(fixes_of(batch), rejections_of(batch))
    await spool.aclose()
    return spool


async def test_what_can_be_read_of_a_damaged_file_moves_over(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = await _filled(path)
    holed = _leaves(path, "fixes", hit=(5, 60, 61)) + _leaves(path, "rejections", hit=(3,))
    found = await spool.open()
    assert 0 <= 40 * (BATCH + REJECTED) - holed - found <= 3 * 8  # each hole is left in a step
    rescued = await spool.oldest(PLENTY)
    await spool.aclose()
    sent = [fix for batch in range(40) for fix in fixes_of(batch)]
    there = set(rescued.fixes)
    assert list(rescued.fixes) == [fix for fix in sent if fix in there]
    assert 36 <= len(rescued.rejections) < 80
    assert sorted(each.name for each in tmp_path.iterdir()) == ["spool.sqlite", "spool.sqlite.damaged-1"]


def _leaves(path: Path, table: str, hit: tuple[int, ...], source: Path | None = None) -> int:
    """Overwrite some leaf pages of a table; how many rows that costs. `source`: an undamaged twin to look into."""
    connection = sqlite3.connect(source or path)
    leaves = connection.execute(
        "SELECT pageno, ncell FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,)
    ).fetchall()
    connection.close()
    with path.open("r+b") as file:
        for number in hit:
            file.seek((leaves[number][0] - 1) * 4096)
            file.write(b"\xa5" * 4096)
    return sum(leaves[number][1] for number in hit)


async def test_the_log_of_a_damaged_file_is_read_as_well(tmp_path: Path) -> None:
    """As after kill -9: the newest rows are in the log only."""
    path, left = tmp_path / "spool.sqlite", tmp_path / "left" / "spool.sqlite"
    left.parent.mkdir()
    spool = SpoolOnDisk(path, PLENTY)
    await spool.open()
    for batch in range(40):
        await spool.put(fixes_of(batch), [])
    await spool.aclose()
    await spool.open()
    await spool.put([make_fix("last")], [])
    shutil.copy(path, left)
    shutil.copy(f"{path}-wal", f"{left}-wal")
    await spool.aclose()
    _leaves(left, "fixes", hit=(5,), source=path)
    rescued = SpoolOnDisk(left, PLENTY)
    assert 39 * BATCH < await rescued.open() < 40 * BATCH
    assert (await rescued.oldest(PLENTY)).fixes[-1] == make_fix("last")
    assert Path(f"{left}.damaged-1-wal").stat().st_size > 0
    await rescued.aclose()


async def test_killed_while_it_moves_the_next_start_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spool.sqlite"
    spool = await _filled(path)
    _leaves(path, "fixes", hit=(60,))

    class Killed(BaseException):
        """As good as SIGKILL: nothing of ours happens after it."""

    def cut_short(file: Path) -> Iterator[tuple[list[Fix], list[Rejection]]]:
        yield next(rescue(file))
        raise Killed

    monkeypatch.setattr(spool_file, "rescue", cut_short)
    with pytest.raises(Killed):
        await spool.open()
    monkeypatch.undo()
    assert 40 * (BATCH + REJECTED) - 100 < await spool.open() < 40 * (BATCH + REJECTED)
    await spool.aclose()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["spool.sqlite", "spool.sqlite.damaged-1"]


async def test_what_is_rescued_keeps_to_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    await spool.open()
    for batch in range(100):
        await spool.put(fixes_of(batch), rejections_of(batch))
    await spool.aclose()
    _leaves(tmp_path / "spool.sqlite", "fixes", hit=(100,))
    small = SpoolOnDisk(tmp_path / "spool.sqlite", 1 << 20)
    assert 1000 <= await small.open() < 10_000
    assert sum(each.stat().st_size for each in tmp_path.glob("spool.sqlite*") if "damaged" not in each.name) <= 1 << 20
    await small.aclose()
    assert "before this happened" in capsys.readouterr().out
