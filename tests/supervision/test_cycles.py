"""What has been looked at twice is set aside; what nobody holds is found, before that and in the end."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from actors.supervision import cycles
from actors.supervision.cycles import LOOK_AT, LOOKS, look_at_new_ones


class Ring:
    """Held by itself."""

    def __init__(self) -> None:
        self.held_by = self


@pytest.fixture
def looks() -> Iterator[list[int]]:
    """How many objects each search of more than the youngest left, by Python's count."""
    found: list[int] = []
    threshold, callbacks = gc.get_threshold(), list(gc.callbacks)

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"]:
            found.append(len(gc.get_objects(2)))

    gc.callbacks.append(note)
    look_at_new_ones()
    yield found
    gc.callbacks[:] = callbacks
    gc.set_threshold(*threshold)
    gc.unfreeze()


def live(times: int) -> list[list[int]]:
    """Objects enough to be searched so often, which stay."""
    return [[each] for each in range(times * LOOKS * LOOK_AT)]


def test_what_was_looked_at_is_set_aside(looks: list[int]) -> None:
    before = gc.get_freeze_count()
    kept = live(10)
    assert len(looks) >= 5
    assert max(looks) <= (LOOKS + 1) * LOOK_AT * 1.1, "some are made by others"
    assert gc.get_freeze_count() - before > len(kept) * 0.8


def test_what_nobody_holds_is_found_among_the_new(looks: list[int]) -> None:
    ring = weakref.ref(Ring())
    kept = live(2)
    assert ring() is None
    assert kept


def test_and_everywhere_after_many_times(looks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycles, "ASIDE", 5)
    ring = Ring()
    gone = weakref.ref(ring)
    kept = live(2)
    del ring
    kept += live(1)
    assert gone() is not None, "set aside"
    kept += live(10)
    assert gone() is None
    assert len(looks) > 5
