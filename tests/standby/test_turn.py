"""Whose turn it is, step by step. What comes of it between nodes: test_standby.py."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from actors.standby.turn import ASK_S, BEATEN_REST_S, CHECK_S, HEAD_START_S, PATIENCE_S, SOON_S, Turn


def holding(now: float = 0.0) -> Turn:
    turn = Turn(held_last=False)
    turn.in_session(now)
    turn.answered(True, now)
    return turn


def test_nobody_reads_before_postgresql_was_asked() -> None:
    assert not Turn(held_last=True).may_read
    assert Turn(held_last=True).asks_at() == math.inf


def test_who_had_the_lock_last_takes_it_at_once_others_later() -> None:
    for held_last in (True, False):
        turn = Turn(held_last)
        turn.in_session(100.0)
        assert turn.asks_at() == 100.0
        assert turn.may_take(100.0) is held_last
        assert turn.may_take(100.0 + HEAD_START_S)


def test_once_it_was_somebody_elses_there_is_nobody_to_wait_for() -> None:
    turn = Turn(held_last=True)
    turn.in_session(100.0)
    turn.answered(False, 100.0)
    assert not turn.may_read
    assert turn.may_take(100.0)
    assert turn.asks_at() == 100.0 + ASK_S
    turn.session_lost()
    turn.in_session(200.0)
    assert not turn.may_take(200.0), "PostgreSQL was away, and the holder may have been there before"


def test_the_holder_reads_and_looks_every_second() -> None:
    turn = holding(10.0)
    assert turn.may_read
    assert turn.asks_at() == 10.0 + CHECK_S


def test_without_postgresql_the_last_holder_goes_on() -> None:
    turn = holding()
    turn.session_lost()
    assert turn.may_read
    assert not turn.holds
    turn.in_session(50.0)
    assert turn.may_read
    assert turn.asks_at() == 50.0
    turn.answered(False, 50.1)
    assert not turn.may_read, "somebody else has it"


def test_without_postgresql_a_start_waits_unless_this_node_read_last() -> None:
    for held_last in (True, False):
        turn = Turn(held_last)
        turn.session_lost()
        assert turn.may_read is held_last


def test_who_is_ended_soon_after_connack_without_the_lock_stops() -> None:
    for after_s, with_lock, goes_on in ((SOON_S - 1, False, False), (SOON_S, False, True), (1.0, True, True)):
        turn = holding()
        if not with_lock:
            turn.session_lost()
        turn.on_broker(100.0)
        turn.off_broker(100.0 + after_s)
        assert turn.may_read is goes_on


def test_attempts_that_fail_are_no_other_reader() -> None:
    turn = holding()
    turn.session_lost()
    turn.off_broker(1.0)
    turn.off_broker(1.1)
    assert turn.may_read


def test_a_holder_that_is_off_the_broker_for_long_gives_up() -> None:
    turn = holding(100.0)
    assert turn.gives_up_at() == 100.0 + PATIENCE_S, "it has to get there first"
    turn.on_broker(101.0)
    assert turn.gives_up_at() == math.inf
    turn.off_broker(200.0)
    turn.off_broker(201.0)
    assert turn.gives_up_at() == 200.0 + PATIENCE_S
    turn.session_lost()
    assert turn.gives_up_at() == math.inf, "nobody could take it over"
    turn.in_session(300.0)
    turn.answered(True, 300.0)
    assert turn.gives_up_at() == 300.0 + PATIENCE_S
    turn.let_go()
    assert not turn.may_read
    turn.parted()
    turn.in_session(311.0)
    turn.answered(None, 311.0)
    assert not turn.may_take(311.0), "others first"
    assert turn.may_take(311.0 + HEAD_START_S)


def test_a_holder_that_another_client_beats_rests() -> None:
    turn = holding(0.0)
    turn.on_broker(1.0)
    turn.beaten(20.0)
    assert turn.gives_up_at() <= 20.0
    turn.let_go()
    turn.in_session(20.0)
    turn.answered(False, 20.0)
    assert not turn.may_take(19.0 + BEATEN_REST_S)
    assert turn.may_take(20.0 + BEATEN_REST_S)


def test_who_is_beaten_without_the_lock_stops() -> None:
    turn = holding(0.0)
    turn.session_lost()
    turn.beaten(20.0)
    assert not turn.may_read


@given(st.lists(st.tuples(st.integers(0, 7), st.floats(0.0, 30.0)), max_size=40), st.booleans())
def test_who_reads_held_the_lock_last_and_who_has_no_session_holds_none(
    steps: list[tuple[int, float]], held_last: bool
) -> None:
    turn, now = Turn(held_last), 0.0
    for step, passed in steps:
        now += passed
        match step:
            case 0:
                turn.in_session(now)
            case 1:
                turn.session_lost()
            case 2 | 3:
                if turn.asks_at() < math.inf:
                    turn.answered(step == 2, now)
            case 4:
                turn.on_broker(now)
            case 5:
                turn.off_broker(now)
            case 6:
                turn.beaten(now)
                if turn.holds:
                    assert turn.gives_up_at() <= now
                    turn.let_go()
            case _:
                turn.parted()
        if turn.may_read:
            assert turn.held_last
        if turn.holds:
            assert turn.may_read
            assert turn.asks_at() < math.inf
        else:
            assert turn.gives_up_at() == math.inf
