"""The spool in trouble: killed, full, damaged, removed, locked. Nothing is half there, nothing is deleted."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from actors.drivers.spool import Spool
from actors.errors import SpoolFull, SpoolUnavailable
from tests.live.spool_child import BATCH, PLENTY, REJECTED, fixes_of, put_until_refused, rejections_of
from tests.making import make_fix

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024


def child(what: str, path: Path, argument: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.live.spool_child", what, str(path), str(argument)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def test_what_a_put_returned_for_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    known = first = 0
    for _ in range(5):
        process = child("fill", path, first)
        assert process.stdout is not None
        with process, process.stdout as lines:
            said = [await trio.to_thread.run_sync(lines.readline)]
            await trio.sleep(chance.uniform(0, 0.3))
            os.kill(process.pid, signal.SIGKILL)
            said += await trio.to_thread.run_sync(lines.readlines)
        known = int([line for line in said if line.endswith("\n")][-1]) + 1
        spool = Spool(path, PLENTY)
        found = await spool.open()
        batch = await spool.oldest(PLENTY)
        await spool.aclose()
        whole, rest = divmod(found, BATCH + REJECTED)
        assert rest == 0, f"half a put, seed {seed}"
        assert known <= whole <= known + 1, f"seed {seed}"
        assert batch.fixes == tuple(fix for each in range(whole) for fix in fixes_of(each))
        assert batch.rejections == tuple(each for number in range(whole) for each in rejections_of(number))
        first = whole
    assert list(tmp_path.glob("*.damaged*")) == []


@pytest.mark.parametrize("mib", [1, 3, 8])
async def test_a_spool_never_grows_beyond_its_limit(tmp_path: Path, mib: int) -> None:
    spool = Spool(tmp_path / "spool.sqlite", mib * MIB)
    await spool.open()
    for _ in range(2):
        filled = await put_until_refused(spool, SpoolFull)
        assert filled > 2 * mib
        assert spool.bytes == sum(each.stat().st_size for each in tmp_path.iterdir()) <= mib * MIB
        with pytest.raises(SpoolFull, match="is full"):
            await spool.put(fixes_of(filled), rejections_of(filled))
        # Half of it drained is room for as much again, though the file is no smaller.
        oldest = await spool.oldest(spool.rows // 2)
        await spool.remove(oldest.keys)
        assert spool.bytes <= mib * MIB
        assert await spool.put(fixes_of(filled), rejections_of(filled)) == BATCH + REJECTED
        while (oldest := await spool.oldest(1000)).keys:
            await spool.remove(oldest.keys)
            assert spool.bytes <= mib * MIB
        assert spool.bytes < 64 * 1024 or spool.bytes <= MIB
    await spool.aclose()


@pytest.mark.parametrize("limit", [300_000, 1_000_000, 20 * MIB])
async def test_files_that_may_not_grow_refuse_a_put_as_a_whole(tmp_path: Path, limit: int) -> None:
    process = child("meet_the_end", tmp_path / "spool.sqlite", limit)
    with process:
        assert process.stdout is not None
        said = await trio.to_thread.run_sync(process.stdout.read)
    assert process.returncode == 0
    spool = Spool(tmp_path / "spool.sqlite", PLENTY)
    assert await spool.open() == int(said) * (BATCH + REJECTED)
    await spool.aclose()


@pytest.mark.parametrize("pages", [30, 200])
async def test_sqlites_word_for_a_full_disk(tmp_path: Path, pages: int) -> None:
    spool = Spool(tmp_path / "spool.sqlite", PLENTY)
    await spool.open()
    # ENOSPC comes as SQLITE_FULL; this makes SQLite say so without a disk of our own.
    connection = spool._file._connection
    assert connection is not None
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    filled = await put_until_refused(spool, SpoolFull)
    await spool.remove((await spool.oldest(PLENTY)).keys)
    connection.execute("PRAGMA max_page_count = 4294967294").fetchall()
    assert await spool.put(fixes_of(filled), rejections_of(filled)) == BATCH + REJECTED
    await spool.aclose()


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
    spool = Spool(path, PLENTY)
    for number in (1, 2):
        await spool.open()
        for batch in range(5):
            await spool.put(fixes_of(batch), rejections_of(batch))
        await spool.aclose()
        damage(path)
        kept = {each.name.removeprefix(path.name): each.read_bytes() for each in tmp_path.glob("spool.sqlite*")}
        assert await spool.open() == spool.rows == 0
        assert await spool.put([make_fix()], []) == 1
        await spool.aclose()
        for suffix in ("", "-wal"):
            if suffix in kept:
                assert Path(f"{path}.damaged-{number}{suffix}").read_bytes() == kept[suffix]
        said = capsys.readouterr().out
        assert "level='error'" in said
        assert f"{path}.damaged-{number} .recover" in said
        path.unlink()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program in the middle of writing to the file."""
    connection = sqlite3.connect(tmp_path / "spool.sqlite", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield connection
    connection.close()


async def test_a_file_that_somebody_else_holds_is_left_alone(tmp_path: Path, held: sqlite3.Connection) -> None:
    spool = Spool(tmp_path / "spool.sqlite", PLENTY)
    with pytest.raises(SpoolUnavailable, match="locked"):
        await spool.open()
    held.execute("ROLLBACK")
    assert await spool.open() == 0
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        held.execute("SELECT * FROM fixes")
    await spool.put([make_fix()], [])
    await spool.aclose()
    assert held.execute("SELECT count(*) FROM fixes").fetchone() == (1,)


async def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    later = sqlite3.connect(path, isolation_level=None)
    later.execute("PRAGMA user_version = 2")
    later.close()
    spool = Spool(path, PLENTY)
    with pytest.raises(SpoolUnavailable, match="later version"):
        await spool.open()
    assert not list(tmp_path.glob("*.damaged*"))


async def test_no_way_to_the_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "spool.sqlite", tmp_path):
        with pytest.raises(SpoolUnavailable, match=str(path)):
            await Spool(path, PLENTY).open()


async def test_a_file_removed_under_us_takes_no_more_until_it_is_drained(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, PLENTY)
    await spool.open()
    await spool.put([make_fix("P1")], [])
    path.unlink()
    with pytest.raises(SpoolUnavailable, match="removed"):
        await spool.put([make_fix("P2")], [])
    oldest = await spool.oldest(9)
    assert oldest.fixes == (make_fix("P1"),)
    await spool.remove(oldest.keys)
    assert await spool.put([make_fix("P2")], []) == 1
    await spool.aclose()
    assert await spool.open() == 1
    assert (await spool.oldest(9)).fixes == (make_fix("P2"),)
    await spool.aclose()
