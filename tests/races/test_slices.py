"""Slices of a snapshot: they are of one moment, and made anew only where somebody moved."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.fix import Fix
from actors.core.position import position_json
from actors.dashboards.frames import Shared
from actors.races.live_positions import LivePositions
from actors.races.slices import SLICE, Slices
from tests.kit.making import BASE_MS, make_fix

STALE_MS = 30_000


def crowd(count: int) -> LivePositions:
    live = LivePositions(STALE_MS, 300_000)
    move(live, [make_fix(f"P{n}") for n in range(count)])
    return live


def move(live: LivePositions, fixes: list[Fix]) -> None:
    live.accept(live.changes(fixes, BASE_MS))


def read(parts: list[Shared]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(b"[%b]" % b"".join(part.data for part in parts))
    return found


def expected(live: LivePositions) -> list[dict[str, Any]]:
    return [json.loads(position_json(fix, pid in live.stale)) for pid, fix in live.newest.items()]


@pytest.mark.parametrize("count", [0, 1, SLICE - 1, SLICE, SLICE + 1, 5 * SLICE + 7])
def test_joined_they_are_all_positions(count: int) -> None:
    live = crowd(count)
    parts = list(Slices().of(live))
    assert len(parts) == -(-count // SLICE)
    assert read(parts) == expected(live)


def test_only_where_somebody_moved_or_turned_stale_a_slice_is_made_anew() -> None:
    live, made = crowd(3 * SLICE), Slices()
    first = list(made.of(live))
    assert all(a is b for a, b in zip(first, made.of(live), strict=True))
    move(live, [make_fix(f"P{SLICE}", at_s=1)])
    second = list(made.of(live))
    assert [a is b for a, b in zip(first, second, strict=True)] == [True, False, True]
    live.turn_stale(BASE_MS + STALE_MS + 1)  # all but who moved
    third = list(made.of(live))
    assert [a is b for a, b in zip(second, third, strict=True)] == [False] * 3
    assert read(third) == expected(live)
    live.clear()
    assert list(made.of(live)) == []
    move(live, [make_fix("P7"), *[make_fix(f"Q{n}") for n in range(SLICE)]])
    assert read(list(made.of(live))) == expected(live)


@given(st.lists(st.integers(0, 400), max_size=5), st.integers(0, 4))
def test_they_are_of_the_moment_in_which_they_were_asked_for(moving: list[int], taken: int) -> None:
    """Also when others ask while they are made."""
    live, made = crowd(350), Slices()
    moment = expected(live)
    asked = made.of(live)
    parts = list(islice(asked, taken))
    move(live, [make_fix(f"P{n}", at_s=n) for n in moving])
    assert read(list(made.of(live))) == expected(live)
    assert read([*parts, *asked]) == moment
