"""The spool on a real disk: what a put returned for is there, whole, once, and in order."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import msgspec
import pytest
import trio

from actors.core.errors import SpoolUnavailable
from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.history.spool import file
from actors.history.spool import spool as spool_driver
from actors.history.spool.spool import SpoolOnDisk
from tests.history.spool.spool_child import ANY_SKEW_MS, BATCH, PLENTY, REJECTED, fixes_of, rejections_of
from tests.kit.making import make_fix


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SpoolOnDisk]:
    """Open and empty."""
    made = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    assert await made.open() == 0
    yield made
    await made.aclose()


def rejection(number: int, topic: str = "tracking/P1/position") -> Rejection:
    return Rejection(number.to_bytes(16, "big"), 1_751_357_730_001, topic, b"\x00\xff", "bad_json", "why \ud800")


async def test_rows_come_back_as_they_were_put(spool: SpoolOnDisk) -> None:
    sent = msgspec.structs.replace(
        make_fix("Zoë@1", 5, lat=-89.9999999, lon=179.9999999, status=3, arrived_s=7.25, race_id="R-日本"),
        sent_timestamp="2025-07-01t15:15:30.123456789+07:00",
    )
    old = make_fix("P2", -800_000_000)  # before 2000: negative never, but small
    full = Rejection(b"i" * 16, 1, "t\\xff", b"\x00" * 4096, "bad_id", "d" * 200, "P\0", "R", "no time")
    assert await spool.put([sent, old], [full, rejection(1)]) == 4
    batch = await spool.oldest(10)
    assert batch.fixes == (sent, old)
    assert batch.rejections == (full, rejection(1))
    assert len(set(batch.keys)) == 4
    assert spool.rows == 4


async def test_the_same_id_is_one_row(spool: SpoolOnDisk, tmp_path: Path) -> None:
    first, again = make_fix(arrived_s=1), make_fix(arrived_s=2)
    assert await spool.put([first, again, make_fix("P2")], [rejection(1), rejection(1)]) == 3
    assert await spool.put([again], [rejection(1), rejection(2)]) == 1
    assert await spool.put([], []) == 0
    assert spool.rows == 4
    assert (await spool.oldest(9)).fixes == (first, make_fix("P2"))
    await spool.aclose()
    reopened = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    assert await reopened.open() == reopened.rows == 4
    assert await reopened.put([again], [rejection(2)]) == 0
    await reopened.aclose()


async def test_each_form_in_which_a_fix_was_sent_is_a_row(spool: SpoolOnDisk, tmp_path: Path) -> None:
    """For its receipt. The first is the one that arrived first, and all are one position."""
    forms = [
        msgspec.structs.replace(make_fix(arrived_s=second), sent_timestamp=text)
        for second, text in enumerate(("2025-07-01T08:15:30Z", "2025-07-01T10:15:30+02:00", "2025-07-01T08:15:30z"))
    ]
    assert await spool.put(forms[:2], []) == 2
    poisoned = [attrs.evolve(rejection(1), sent_timestamp=text) for text in (None, "yesterday", "today")]
    assert await spool.put([*forms, forms[1]], [*poisoned, poisoned[1]]) == 4
    await spool.aclose()
    again = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    assert await again.open() == 6
    assert await again.put(forms, poisoned) == 0
    batch = await again.oldest(9)
    assert batch.fixes == tuple(forms)
    assert batch.rejections == tuple(poisoned)
    assert [fix.id for fix in await again.newest("R1", ANY_SKEW_MS)] == [make_fix().id]
    await again.aclose()


async def test_rows_of_an_earlier_version_are_there(spool: SpoolOnDisk, tmp_path: Path) -> None:
    """It kept one form of each."""
    fix = msgspec.structs.replace(make_fix(), sent_timestamp="2025-07-01T08:15:30Z")
    await spool.put([fix], [rejection(1)])
    await spool.aclose()
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.sqlite")) as connection:
        for table in ("fixes", "rejections"):
            connection.execute(f"UPDATE {table} SET id = substr(id, 1, 16)")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    assert await spool.open() == 2
    batch = await spool.oldest(9)
    assert (batch.fixes, batch.rejections) == ((fix,), (rejection(1),))


async def test_the_oldest_come_in_the_order_of_arrival(spool: SpoolOnDisk) -> None:
    late_first = [make_fix("P1", at_s) for at_s in (5, 3, 9, 1)]
    await spool.put(late_first[:2], [rejection(1)])
    await spool.put(late_first[2:], [rejection(2)])
    seen_fixes: list[Fix] = []
    seen_rejections: list[Rejection] = []
    sizes = []
    while (batch := await spool.oldest(2)).keys:
        seen_fixes += batch.fixes
        seen_rejections += batch.rejections
        sizes.append((len(batch.fixes), len(batch.rejections)))
        await spool.remove(batch.keys)
    assert seen_fixes == late_first
    assert seen_rejections == [rejection(1), rejection(2)]
    assert sizes == [(2, 0), (1, 1), (1, 1)]
    assert spool.rows == 0


async def test_rows_that_stay_can_be_passed_over(spool: SpoolOnDisk) -> None:
    await spool.put([make_fix("stays"), make_fix("goes")], [rejection(1)])
    await spool.put([make_fix("stays", 1), make_fix("goes", 1)], [])
    batch = await spool.oldest(4)
    assert [batch.keys.index(key) for key in batch.fix_keys] == [0, 1, 3]
    stay = [key for key, fix in zip(batch.fix_keys, batch.fixes, strict=True) if fix.participant_id == "stays"]
    await spool.remove([key for key in batch.keys if key not in stay])
    assert [key for key in (await spool.oldest(9)).keys if key in batch.keys] == stay
    assert (await spool.oldest(9, batch.keys[-1])).fixes == (make_fix("goes", 1),)
    assert spool.rows == 3


async def test_keys_removed_twice_meet_no_newer_row(spool: SpoolOnDisk) -> None:
    await spool.put([make_fix("P1"), make_fix("P2")], [rejection(1)])
    batch = await spool.oldest(9)
    await spool.remove(batch.keys)
    await spool.put([make_fix("P3")], [rejection(2)])
    await spool.remove(batch.keys)
    await spool.remove([])
    assert spool.rows == 2
    assert await spool.open() == 2  # the same object, opened anew: keys go on
    await spool.remove(batch.keys)
    left = await spool.oldest(9)
    assert (left.fixes, left.rejections) == ((make_fix("P3"),), (rejection(2),))
    await spool.remove(left.keys)
    assert await spool.open() == 0
    await spool.put([make_fix("P4")], [])
    await spool.remove(batch.keys + left.keys)
    assert spool.rows == 1


async def test_the_newest_of_each_participant(spool: SpoolOnDisk) -> None:
    tied = [make_fix("P1", 5, status=status, lat=lat) for status in (1, 0) for lat in (1, 2, 3)]
    ahead = make_fix("P2", 100, arrived_s=0)
    await spool.put([make_fix("P1", 1, status=3), *tied, make_fix("P2", 2), ahead], [])
    await spool.put([make_fix("P2", 1), make_fix("P1", 9, race_id="R2")], [])
    greatest = max(tied, key=lambda fix: fix.rank)

    async def newest(race_id: str, skew_ms: int) -> set[Fix]:
        found = await spool.newest(race_id, skew_ms)
        assert len(found) == len(set(found))
        return set(found)

    assert await newest("R1", ANY_SKEW_MS) == {greatest, ahead}
    assert await newest("R1", 100_000) == {greatest, ahead}
    assert await newest("R1", 99_999) == {greatest, make_fix("P2", 2)}
    assert await newest("R2", 0) == {make_fix("P1", 9, race_id="R2")}
    assert await newest("R3", 0) == set()
    keys = (await spool.oldest(9)).keys
    await spool.remove(keys[:9])  # all of the first put: what is left counts again
    assert await newest("R1", ANY_SKEW_MS) == {make_fix("P2", 1)}


async def test_the_newest_of_many_races_as_far_as_the_time_goes(
    spool: SpoolOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixes = [make_fix("P1", n % 3, race_id=f"R{n % 4}") for n in range(12)]
    await spool.put([*fixes, make_fix("P1", 1000, race_id="R1", arrived_s=0)], [])
    assert await spool.newest_of_races(["R1", "R9", "R3"], 300_000) == {
        "R1": [make_fix("P1", 2, race_id="R1")], "R9": [], "R3": [make_fix("P1", 2, race_id="R3")],
    }  # fmt: skip
    monkeypatch.setattr(spool_driver, "MANY_S", -1)
    assert await spool.newest_of_races(["R9", "R3"], 0) == {"R9": []}


async def test_a_drained_spool_shrinks(spool: SpoolOnDisk, tmp_path: Path) -> None:
    for batch in range(60):
        await spool.put(fixes_of(batch), rejections_of(batch))
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) > 2 * file.SMALL_BYTES
    while (oldest := await spool.oldest(1000)).keys:
        await spool.remove(oldest.keys)
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 64 * 1024
    assert await spool.put(fixes_of(0), rejections_of(0)) == BATCH + REJECTED


async def test_names_of_participants_go_with_the_last_fix(spool: SpoolOnDisk, tmp_path: Path) -> None:
    await spool.put(fixes_of(0), [])
    await spool.remove((await spool.oldest(PLENTY)).keys)
    await spool.aclose()
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.sqlite")) as connection:
        assert connection.execute("SELECT * FROM participants").fetchall() == []


async def test_files_are_private_and_nothing_else_is_left(spool: SpoolOnDisk, tmp_path: Path) -> None:
    await spool.put([make_fix()], [])
    files = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    assert files == {"spool.sqlite": 0o600, "spool.sqlite-wal": 0o600}
    await spool.aclose()
    assert [each.name for each in tmp_path.iterdir()] == ["spool.sqlite"]
    (tmp_path / "spool.sqlite").chmod(0o644)
    assert await spool.open() == 1
    assert (tmp_path / "spool.sqlite").stat().st_mode & 0o777 == 0o600


async def test_a_cancelled_put_is_there_or_not_but_never_half(spool: SpoolOnDisk) -> None:
    whole = 0
    for batch in range(12):
        with trio.move_on_after(batch * 0.0005):
            await spool.put(fixes_of(batch), rejections_of(batch))
        left = len((await spool.oldest(PLENTY)).keys)  # waits until the thread is done
        assert left % (BATCH + REJECTED) == 0
        assert left == spool.rows
        whole = left // (BATCH + REJECTED)
    assert await spool.put(fixes_of(0), rejections_of(0)) == (BATCH + REJECTED if whole < 12 else 0)
    assert spool.rows % (BATCH + REJECTED) == 0


async def test_the_loop_turns_while_the_disk_works(spool: SpoolOnDisk) -> None:
    """At one of several times: on a busy machine others keep it from turning, too."""
    for hour in range(5):
        turns, worst_s, took_s = await turned(spool, [make_fix(f"P{n}", hour * 3600 + n) for n in range(20_000)])
        if turns >= 5 and worst_s < took_s / 2:
            return
    raise AssertionError(f"{turns} turns, one of {worst_s:.3f} s out of {took_s:.3f} s")


async def turned(spool: SpoolOnDisk, many: list[Fix]) -> tuple[int, float, float]:
    """(turns of the loop while these are put into the spool, the longest of them in s, how long it took in s)."""
    worst, turns = 0.0, 0

    async def turn() -> None:
        nonlocal worst, turns
        while True:
            before = trio.current_time()
            await trio.sleep(0.001)
            worst = max(worst, trio.current_time() - before)
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn)
        began = trio.current_time()
        assert await spool.put(many, []) == len(many)
        took = trio.current_time() - began
        nursery.cancel_scope.cancel()
    return turns, worst, took


async def test_closing_while_cancelled_closes(spool: SpoolOnDisk, tmp_path: Path) -> None:
    await spool.put([make_fix()], [])
    with trio.CancelScope() as scope:
        scope.cancel()
        await spool.aclose()
    assert not (tmp_path / "spool.sqlite-wal").exists()
    await spool.aclose()
    with pytest.raises(SpoolUnavailable, match="not open"):
        await spool.put([make_fix()], [])
    with pytest.raises(SpoolUnavailable, match="not open"):
        await spool.oldest(1)


async def test_closing_waits_for_no_disk_that_hangs(spool: SpoolOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(spool_driver, "CLOSE_S", 0.05)
    started = trio.current_time()
    with monkeypatch.context() as patch:
        patch.setattr(spool._file, "close", lambda: hanging.wait(60))
        await spool.aclose()
        with trio.move_on_after(0.05) as waiting:
            await spool.put([make_fix()], [])
        assert trio.current_time() - started < 30
        hanging.set()
    assert waiting.cancelled_caught
    assert (await spool.oldest(1)).keys == ()


async def test_a_fault_of_ours_is_no_trouble_of_the_disk(spool: SpoolOnDisk) -> None:
    wrong = msgspec.structs.replace(make_fix("P2"), lat_e7=None)
    with pytest.raises(sqlite3.IntegrityError):
        await spool.put([make_fix("P1"), wrong], [])
    assert (await spool.oldest(9)).keys == ()
    assert await spool.put([make_fix("P1")], []) == 1


async def test_sqlite_is_told_to_sync_each_commit(spool: SpoolOnDisk) -> None:
    """No test without a power switch shows more. 2 is FULL (sqlite.org/pragma.html#pragma_synchronous)."""
    connection = spool._file._connection
    assert connection is not None
    said = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    assert said == [2, "wal"]
