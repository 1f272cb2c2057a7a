"""The spool in trouble: killed, full, removed, locked. Nothing is half there."""

from __future__ import annotations

import errno
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

from actors.core.errors import SpoolFull, SpoolUnavailable
from actors.history.spool import file, open
from actors.history.spool.spool import SpoolOnDisk
from actors.history.spool.sql import VERSION
from tests.history.spool.spool_child import (
    ANY_SKEW_MS,
    BATCH,
    PLENTY,
    REJECTED,
    fixes_of,
    put_until_refused,
    rejections_of,
)
from tests.kit.making import make_fix

ROOT = Path(__file__).parents[3]
MIB = 1024 * 1024


def bytes_in(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.iterdir())


def child(what: str, path: Path, argument: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.history.spool.spool_child", what, str(path), str(argument)]
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
        spool = SpoolOnDisk(path, PLENTY)
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


@pytest.mark.parametrize("mib", [1, 3, 6])
async def test_a_spool_never_grows_beyond_its_limit(tmp_path: Path, mib: int) -> None:
    spool = SpoolOnDisk(tmp_path / "spool.sqlite", mib * MIB)
    await spool.open()
    for _ in range(2):
        filled = await put_until_refused(spool, SpoolFull)
        assert filled > 2 * mib
        assert bytes_in(tmp_path) <= mib * MIB
        with pytest.raises(SpoolFull, match="is full"):
            await spool.put(fixes_of(filled), rejections_of(filled))
        # Half of it drained is room for as much again, though the file is no smaller.
        oldest = await spool.oldest(spool.rows // 2)
        await spool.remove(oldest.keys)
        assert bytes_in(tmp_path) <= mib * MIB
        assert await spool.put(fixes_of(filled), rejections_of(filled)) == BATCH + REJECTED
        while (oldest := await spool.oldest(1000)).keys:
            await spool.remove(oldest.keys)
            assert bytes_in(tmp_path) <= mib * MIB
        assert bytes_in(tmp_path) <= MIB
    await spool.aclose()


@pytest.mark.parametrize("limit", [300_000, 1_000_000, 5 * MIB])
async def test_files_that_may_not_grow_refuse_a_put_as_a_whole(tmp_path: Path, limit: int) -> None:
    """The log, and the file when the log is written back to it."""
    process = child("meet_the_end", tmp_path / "spool.sqlite", limit)
    with process:
        assert process.stdout is not None
        said = await trio.to_thread.run_sync(process.stdout.read)
    assert process.returncode == 0
    spool = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    assert await spool.open() == int(said) * (BATCH + REJECTED)
    await spool.aclose()


def limit_pages(spool: SpoolOnDisk, pages: int) -> None:
    connection = spool._file._connection
    assert connection is not None
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()


@pytest.mark.parametrize("pages", [30, 200])
async def test_sqlites_word_for_a_full_disk(tmp_path: Path, pages: int) -> None:
    spool = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    await spool.open()
    # ENOSPC comes as SQLITE_FULL; this makes SQLite say so without a disk of our own.
    limit_pages(spool, pages)
    filled = await put_until_refused(spool, SpoolFull)
    await spool.remove((await spool.oldest(PLENTY)).keys)
    limit_pages(spool, 4294967294)
    assert await spool.put(fixes_of(filled), rejections_of(filled)) == BATCH + REJECTED
    await spool.aclose()


@pytest.mark.parametrize("pages", [200, 700])
async def test_a_spool_drains_although_nothing_can_be_written(tmp_path: Path, pages: int) -> None:
    spool = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    await spool.open()
    for batch in range(pages // 10):
        await spool.put(fixes_of(batch), rejections_of(batch))
    connection = spool._file._connection
    assert connection is not None
    connection.execute("PRAGMA query_only = ON")  # "attempt to write a readonly database"
    with pytest.raises(SpoolUnavailable):
        await spool.put(fixes_of(0), [])
    everything = await spool.oldest(PLENTY)
    with pytest.raises(SpoolUnavailable):  # older ones are left: nothing is known of these after the next crash
        await spool.remove(everything.keys[500:])
    before, half = spool.rows, len(everything.keys) // 2
    await spool.remove(everything.keys[:half])
    await spool.remove(everything.keys[: half + 1])
    assert spool.rows == before - half - 1
    rest = await spool.oldest(PLENTY)
    assert rest.keys == everything.keys[half + 1 :]
    assert set(await spool.newest("R1", ANY_SKEW_MS)) <= set(rest.fixes)
    if pages == 200:  # it can be written again: what is owed goes with the next
        connection.execute("PRAGMA query_only = OFF")
        await spool.remove(rest.keys[:1])
        counted = connection.execute("SELECT count(*) FROM fixes").fetchone()[0]
        assert counted == len(rest.fixes) - (1 if len(rest.fixes) else 0)
        await spool.remove((await spool.oldest(PLENTY)).keys)
    else:
        await spool.remove(rest.keys)
    assert spool.rows == 0
    assert bytes_in(tmp_path) < 128 * 1024
    assert (await spool.oldest(9)).keys == ()
    assert await spool.put(fixes_of(0), rejections_of(0)) == BATCH + REJECTED
    await spool.aclose()
    assert await spool.open() == BATCH + REJECTED
    await spool.aclose()


async def test_a_new_file_that_cannot_be_begun_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    await spool.open()
    for batch in range(30):
        await spool.put(fixes_of(batch), rejections_of(batch))

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file, "open_file", no_space)
        await spool.remove((await spool.oldest(PLENTY)).keys)
        assert (spool.rows, bytes_in(tmp_path)) == (0, 0)
        for call in (
            lambda: spool.put([make_fix()], []),
            lambda: spool.oldest(1),
            lambda: spool.newest("R1", ANY_SKEW_MS),
            lambda: spool.newest_of_races(["R1"], ANY_SKEW_MS),
        ):
            with pytest.raises(SpoolFull, match="No space left"):
                await call()
    assert (await spool.oldest(1)).keys == ()
    assert await spool.put([make_fix()], []) == 1
    await spool.aclose()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program in the middle of writing to the file."""
    connection = sqlite3.connect(tmp_path / "spool.sqlite", timeout=0, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield connection
    connection.close()


async def test_a_file_that_somebody_else_holds_is_left_alone(
    tmp_path: Path, held: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open, "LOCKED_S", 0.05)
    spool = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
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
    later.execute(f"PRAGMA user_version = {VERSION + 1}")
    later.close()
    spool = SpoolOnDisk(path, PLENTY)
    with pytest.raises(SpoolUnavailable, match="later version"):
        await spool.open()
    assert not list(tmp_path.glob("*.damaged*"))


async def test_no_way_to_the_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "spool.sqlite", tmp_path):
        with pytest.raises(SpoolUnavailable, match=str(path)):
            await SpoolOnDisk(path, PLENTY).open()


async def test_a_file_removed_under_us_takes_no_more_until_it_is_drained(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = SpoolOnDisk(path, PLENTY)
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
