"""Work with poison in it is done in the end, without the poison and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from actors.core.quarantine import Quarantine

PARTS = st.lists(st.integers(0, 20), max_size=12, unique=True)


def work_off(quarantine: Quarantine[list[int], int], bad: Callable[[list[int]], bool]) -> tuple[list[int] | None, int]:
    """What is done at last, None when it is given up; after how many crashes. As an actor that runs again and again."""
    crashes = 0
    while True:
        assert quarantine.held is not None
        try:
            if quarantine.tried:
                for part in quarantine.one_by_one(quarantine.held):
                    if bad([part]):
                        raise ZeroDivisionError
            left = [part for part in quarantine.held if part not in quarantine.poisoned]
            if bad(left):
                raise ZeroDivisionError
        except ZeroDivisionError:
            crashes += 1
            assert crashes <= len(quarantine.held) + 1
            if quarantine.after_crash():
                return None, crashes
        else:
            quarantine.done()
            return left, crashes


@given(PARTS, st.sets(st.integers(0, 20)))
def test_each_poisoned_part_is_found_and_no_other(parts: list[int], poison: set[int]) -> None:
    quarantine: Quarantine[list[int], int] = Quarantine(parts)
    met = poison & set(parts)
    left, crashes = work_off(quarantine, lambda some: bool(poison & set(some)))
    assert left == [part for part in parts if part not in poison]
    assert quarantine.poisoned == met
    assert crashes == (len(met) + 1 if met else 0)
    assert (quarantine.held, quarantine.suspect, quarantine.tried) == (None, None, False)
    quarantine.held = parts  # comes once more
    assert work_off(quarantine, lambda some: bool(poison & set(some))) == (left, 0)


@given(PARTS.filter(lambda parts: len(parts) > 1))
def test_what_crashes_only_as_a_whole_is_given_up_after_the_second_time(parts: list[int]) -> None:
    quarantine: Quarantine[list[int], int] = Quarantine(parts)
    assert work_off(quarantine, lambda some: len(some) > 1) == (None, 2)
    assert quarantine.poisoned == set()


def test_a_crash_with_nothing_in_hand_is_nobodys_fault() -> None:
    quarantine: Quarantine[list[int], int] = Quarantine()
    for _ in range(3):
        assert not quarantine.after_crash()
    assert (quarantine.tried, quarantine.poisoned) == (False, set())
