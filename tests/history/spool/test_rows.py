"""Rows of the spool: everything comes back, whatever a tracker sent."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.history.spool.rows import fix_of, fix_row, rejection_of, rejection_row, runs

numbers = st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=60)
any_texts = st.text(st.characters(), max_size=60) | st.just("\ud800 and \x00")
ids = st.binary(min_size=16, max_size=16)
fixes = st.builds(Fix, texts, texts, numbers, numbers, numbers, st.integers(0, 3), numbers, ids, texts)
optional = st.none() | any_texts
rejections = st.builds(
    Rejection, ids, numbers, any_texts, st.binary(max_size=80), any_texts, any_texts, optional, optional, optional
)


@given(numbers, fixes)
def test_a_fix_comes_back(key: int, fix: Fix) -> None:
    row = fix_row(key, fix)
    assert row[0] == key
    assert fix_of(row) == fix


@given(numbers, rejections)
def test_a_rejection_comes_back(key: int, rejection: Rejection) -> None:
    row = rejection_row(key, rejection)
    assert row[0] == key
    assert rejection_of(row) == rejection


@given(st.lists(st.integers(-5, 40)))
def test_runs_hold_the_keys_and_nothing_else(keys: list[int]) -> None:
    found = runs(keys)
    assert [key for first, last in found for key in range(first, last + 1)] == sorted(set(keys))
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(found))


def test_runs_are_few() -> None:
    assert runs([]) == []
    assert runs([3, 1, 2, 7, 7, 9, 8]) == [(1, 3), (7, 9)]
