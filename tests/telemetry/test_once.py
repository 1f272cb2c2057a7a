"""A key speaks once a second; what was held back is counted."""

from __future__ import annotations

from actors.telemetry.once import OncePerSecond


def test_a_key_speaks_once_a_second_and_others_beside_it() -> None:
    once = OncePerSecond()
    assert [once.allows("a", now) for now in (10.0, 10.0, 10.999, 11.0, 11.5)] == [True, False, False, True, False]
    assert once.allows("b", 10.5)


def test_what_was_held_back_is_told_once() -> None:
    once = OncePerSecond()
    for _ in range(4):
        once.allows("a", 1.0)
    assert once.allows("a", 2.0)
    assert once.take_suppressed("a") == 3
    assert once.take_suppressed("a") == 0
    assert once.take_suppressed("never heard of") == 0


def test_a_clock_set_back_silences_nobody() -> None:
    once = OncePerSecond()
    assert once.allows("a", 1000.0)
    assert once.allows("a", 10.0)
    assert not once.allows("a", 10.5)


def test_the_interval_is_the_callers() -> None:
    once = OncePerSecond(interval_s=5)
    assert [once.allows("a", now) for now in (0, 4.9, 5)] == [True, False, True]


def test_keys_are_bounded_and_the_quietest_goes() -> None:
    once = OncePerSecond(max_keys=2)
    assert once.allows("a", 0.0)
    assert once.allows("b", 0.1)
    assert not once.allows("a", 0.2)
    assert once.allows("c", 0.3)
    assert once.take_suppressed("a") == 0
    assert once.allows("a", 0.4)
    assert not once.allows("c", 0.5)
