"""A race's window: whatever is put in comes out once, in order, in events of a bearable size."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from actors.races.window import EVENT_BYTES, Window


def filled(sizes: list[int]) -> Window:
    window = Window()
    for number, size in enumerate(sizes):
        window.add([(number, json.dumps({"n": number, "pad": "x" * size}).encode())], due=100.0 + number)
    return window


def numbers(event: bytes) -> list[int]:
    message = json.loads(event)
    data = message["data"]
    alone = message["event"] == "position_update"
    return [data["n"]] if alone else [position["n"] for position in data["positions"]]


@given(st.lists(st.integers(0, EVENT_BYTES // 3), max_size=30), st.booleans())
def test_everything_comes_out_once_in_order(sizes: list[int], one_each: bool) -> None:
    window = filled(sizes)
    events = window.take("R1", one_each=one_each)
    assert [n for _, event in events for n in numbers(event)] == list(range(len(sizes)))
    assert [first for first, _ in events] == [numbers(event)[0] for _, event in events]
    assert (window.take("R1", one_each=one_each), window.due, window.full) == ([], math.inf, False)


@given(st.integers(2, 40), st.integers(1, EVENT_BYTES // 3))
def test_two_or_more_in_each_event_of_a_bearable_size(count: int, size: int) -> None:
    events = filled([size] * count).take("R1", one_each=False)
    assert all(len(numbers(event)) >= 2 for _, event in events)
    assert max(len(event) for _, event in events) < 1.5 * EVENT_BYTES + 2 * size


def test_due_is_that_of_the_first_change() -> None:
    window = Window()
    window.add([], due=1.0)
    assert window.due == math.inf
    window.add([(5, b"{}"), (6, b"{}")], due=2.0)
    window.add([(7, b"{}")], due=3.0)
    assert window.due == 2.0


def test_full_by_the_size_of_its_positions() -> None:
    window = Window()
    window.add([(0, b"x" * (EVENT_BYTES - 1))], due=1.0)
    assert not window.full
    window.add([(0, b"x")], due=1.0)
    assert window.full
