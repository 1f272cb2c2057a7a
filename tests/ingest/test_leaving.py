"""What a node does to leave, one thing after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.ingest.leaving import CATCH_UP_S, QUIET_S, Leaving, Move

STEP_S = 0.2


def look(leaving: Leaving, now: float, *, subscribed: bool = True, idle: bool = True) -> Move:
    return leaving.next(now, subscribed=subscribed, idle=idle)


def test_who_shares_unsubscribes_at_once() -> None:
    assert look(Leaving(0.0, catches_up=False), 0.0, subscribed=False, idle=False) is Move.UNSUBSCRIBE


def test_who_has_topics_for_itself_catches_up_first() -> None:
    leaving = Leaving(0.0, catches_up=True)
    leaving.took(5, 1.0)
    assert look(leaving, 1.0 + QUIET_S - 0.1) is Move.WAIT
    assert look(leaving, 1.0 + QUIET_S, subscribed=False) is Move.WAIT
    assert look(leaving, 1.0 + QUIET_S) is Move.UNSUBSCRIBE


def test_but_not_for_ever() -> None:
    leaving = Leaving(0.0, catches_up=True)
    leaving.took(1, CATCH_UP_S - STEP_S)
    assert look(leaving, CATCH_UP_S - STEP_S) is Move.WAIT
    assert look(leaving, CATCH_UP_S) is Move.UNSUBSCRIBE


def test_two_answers_with_nothing_between_them() -> None:
    leaving = Leaving(0.0, catches_up=False)
    assert look(leaving, 0.0) is Move.UNSUBSCRIBE
    assert look(leaving, 60.0) is Move.WAIT  # not answered
    leaving.unsubscribed(1, 60.0)
    leaving.took(3, 61.0)
    assert look(leaving, 61.0 + QUIET_S - 0.1) is Move.WAIT
    assert look(leaving, 61.0 + QUIET_S, idle=False) is Move.WAIT
    assert look(leaving, 61.0 + QUIET_S) is Move.UNSUBSCRIBE
    leaving.took(1, 64.0)  # before the answer
    leaving.unsubscribed(2, 64.0)
    assert look(leaving, 70.0) is Move.UNSUBSCRIBE
    leaving.unsubscribed(3, 70.0)
    assert look(leaving, 70.0 + QUIET_S) is Move.END
    assert leaving.messages == 4


def test_an_answer_of_an_earlier_connection_is_none() -> None:
    leaving = Leaving(0.0, catches_up=False)
    look(leaving, 0.0)
    leaving.unsubscribed(1, 0.0)
    look(leaving, 5.0)
    leaving.unsubscribed(2, 5.0)
    leaving.disconnected()
    assert look(leaving, 60.0) is Move.WAIT
    leaving.begin_again()
    assert look(leaving, 60.0) is Move.UNSUBSCRIBE


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 9), st.booleans())
def test_a_session_is_never_ended_while_it_holds_something(pauses: list[int], messages: int, catches_up: bool) -> None:
    """A broker that sends a batch after each pause (in steps), answers at once, and says nothing new at the end."""
    leaving = Leaving(0.0, catches_up)
    left, now, wait_for = len(pauses), 0.0, pauses[0] if pauses else 0
    asked_with = -1
    for _ in range(2000):
        now += STEP_S
        wait_for -= 1
        if left and wait_for < 0 and leaving.asked:
            left -= 1
            leaving.took(messages, now)
            wait_for = pauses[-left] if left else 0
        move = look(leaving, now)
        if move is Move.UNSUBSCRIBE:
            asked_with = leaving.messages
            leaving.unsubscribed(leaving.asked, now)
        elif move is Move.END:
            break
    assert move is Move.END
    assert asked_with == leaving.messages
    assert now - STEP_S * 2000 < 0
    if all(pause * STEP_S < QUIET_S - 2 * STEP_S for pause in pauses):
        assert left == 0
