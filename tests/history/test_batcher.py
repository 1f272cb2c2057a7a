"""A batch is due by size, by time, or when no company is in sight."""

from __future__ import annotations

import msgspec
import pytest

from actors.core.parcel import Parcel
from actors.core.rejection import Rejection
from actors.history.batcher import COMPANY_S, IDLE_S, PATIENT_IDLE_S, TRY_EVERY, Batcher
from tests.kit.making import make_fix


def parcel(part: int, fixes: int) -> Parcel:
    return Parcel((1, part), "R1", tuple(make_fix(at_s=i) for i in range(fixes)))


def test_empty_is_never_due() -> None:
    batcher = Batcher(max_rows=10, max_wait_s=0.1)
    assert batcher.due_at() == float("inf")
    assert not batcher.due(1e9)
    assert batcher.take() == []


def test_size_fires_at_once_and_keeps_parcels_whole() -> None:
    batcher = Batcher(max_rows=10, max_wait_s=0.1)
    batcher.add([parcel(0, 6)], 0.0)
    assert not batcher.due(0.0)
    batcher.add([parcel(1, 7)], 0.0)
    assert batcher.due(0.0)
    assert [p.id for p in batcher.take()] == [(1, 0), (1, 1)]
    assert batcher.rows == 0
    assert not batcher.due(1.0)


def test_what_is_too_much_for_one_batch_waits_for_the_next_as_old_as_it_is() -> None:
    batcher = Batcher(max_rows=10, max_wait_s=0.1)
    batcher.add([parcel(i, 4) for i in range(7)], 0.0)
    assert [len(batcher.take()) for _ in range(2)] == [3, 3]
    assert (batcher.rows, batcher.due_at()) == (4, IDLE_S)
    assert batcher.due(IDLE_S)
    assert [p.id for p in batcher.take()] == [(1, 6)]
    assert (batcher.rows, batcher.take()) == (0, [])


def test_idle_fires_when_no_company_comes() -> None:
    batcher = Batcher(max_rows=10, max_wait_s=0.1)
    batcher.add([parcel(0, 1)], 5.0)
    assert batcher.due_at() == 5.0 + IDLE_S
    assert not batcher.due(5.0 + IDLE_S / 2)
    assert batcher.due(5.0 + IDLE_S)


def test_time_fires_for_the_oldest_however_steady_the_company() -> None:
    batcher = Batcher(max_rows=1000, max_wait_s=0.1)
    for i in range(25):
        batcher.add([parcel(i, 1)], i * 0.004)
    assert batcher.due_at() == 0.1
    assert not batcher.due(0.0999)
    assert batcher.due(0.1)


def test_how_long_a_parcel_has_waited_before_counts() -> None:
    batcher = Batcher(max_rows=1000, max_wait_s=0.1)
    batcher.add([msgspec.structs.replace(parcel(0, 1), since=4.99)], 5.0)
    assert batcher.due_at() == pytest.approx(5.0 + IDLE_S)
    batcher.add([msgspec.structs.replace(parcel(1, 1), since=4.915)], 5.01)
    assert batcher.due_at() == pytest.approx(5.015)
    batcher.take()
    batcher.add([parcel(2, 1)], 6.0)
    assert batcher.due_at() == pytest.approx(6.0 + PATIENT_IDLE_S), "that one only came now"


def test_rejections_count_as_rows() -> None:
    rejection = Rejection(b"0" * 16, 0, "t", b"", "bad_json", "")
    batcher = Batcher(max_rows=2, max_wait_s=0.1)
    batcher.add([Parcel((1, 0), "", (), (rejection, rejection))], 0.0)
    assert batcher.due(0.0)


def idle_s(batcher: Batcher, *arrivals: float) -> float:
    """How long the batch is patient after the last of these arrivals; it is taken then."""
    for i, at in enumerate(arrivals):
        batcher.add([parcel(i, 1)], at)
    waits = batcher.due_at() - arrivals[-1]
    batcher.take()
    return round(waits, 9)


def test_where_company_came_the_next_batch_is_patient() -> None:
    batcher = Batcher(max_rows=1000, max_wait_s=10)
    assert idle_s(batcher, 0.0, COMPANY_S / 2) == IDLE_S, "one wake-up is no company"
    assert idle_s(batcher, 1.0, 1.0 + 2 * COMPANY_S) == IDLE_S
    assert idle_s(batcher, 2.0, 2.0 + 2 * COMPANY_S) == PATIENT_IDLE_S
    assert idle_s(batcher, 3.0) == PATIENT_IDLE_S
    assert idle_s(batcher, 4.0) == IDLE_S


def test_a_full_window_of_the_broker_is_seldom_waited_for() -> None:
    batcher = Batcher(max_rows=1000, max_wait_s=10)
    waits = [idle_s(batcher, float(i)) for i in range(4 * TRY_EVERY)]
    assert waits.count(PATIENT_IDLE_S) == 4
    assert waits.count(IDLE_S) == 4 * (TRY_EVERY - 1)
