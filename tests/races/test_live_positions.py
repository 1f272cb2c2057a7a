"""Standing: the greatest fix is live, stale turns once, restoring and repeating change nothing."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from actors.core.fix import FINISHED, MOVING, STOPPED, Fix, newest_of
from actors.races.live_positions import TURN, LivePositions
from tests.kit.making import BASE_MS, make_fix

STALE_MS = 30_000


def live_positions() -> LivePositions:
    return LivePositions(stale_after_ms=STALE_MS, max_skew_ms=300_000)


def apply(st_: LivePositions, fixes: list[Fix], now_ms: int = BASE_MS) -> list[tuple[Fix, bool]]:
    changes = st_.changes(fixes, now_ms)
    st_.accept(changes)
    return [(change.fix, change.stale) for change in changes]


def test_every_step_forward_is_a_change_and_no_step_back() -> None:
    s = live_positions()
    a, b, c = make_fix(at_s=0), make_fix(at_s=2), make_fix(at_s=1)
    assert apply(s, [a, b, c]) == [(a, False), (b, False)]
    assert apply(s, [c, b, a]) == []
    assert s.newest == {"P001": b}


def test_same_moment_is_ordered_by_status_then_id() -> None:
    s = live_positions()
    moving, finished = make_fix(status=MOVING), make_fix(status=FINISHED)
    assert apply(s, [finished, moving]) == [(finished, False)]
    small, great = sorted([make_fix("P2", lat=1.0), make_fix("P2", lat=2.0)], key=lambda fix: fix.id)
    assert apply(s, [great, small]) == [(great, False)]


def test_a_fix_too_far_ahead_is_history_only() -> None:
    s = live_positions()
    assert apply(s, [make_fix(at_s=300.001, arrived_s=0)]) == []
    edge = make_fix(at_s=300, arrived_s=0)
    assert apply(s, [edge]) == [(edge, False)]


def test_stale_turns_once_just_past_the_threshold() -> None:
    s = live_positions()
    fix = make_fix(at_s=0)
    apply(s, [fix])
    assert s.next_due_ms() == BASE_MS + STALE_MS + 1
    assert s.turn_stale(BASE_MS + STALE_MS) == []
    assert s.turn_stale(BASE_MS + STALE_MS + 1) == [fix]
    assert s.stale == {"P001"}
    assert s.turn_stale(BASE_MS + 10 * STALE_MS) == []
    assert s.next_due_ms() is None


def test_a_newer_fix_moves_the_moment_and_lifts_the_flag() -> None:
    s = live_positions()
    apply(s, [make_fix(at_s=0)])
    newer = make_fix(at_s=20)
    apply(s, [newer], BASE_MS + 20_000)
    assert s.turn_stale(BASE_MS + STALE_MS + 1) == []
    assert s.turn_stale(BASE_MS + 20_000 + STALE_MS + 1) == [newer]
    fresh = make_fix(at_s=100)
    assert apply(s, [fresh], BASE_MS + 100_000) == [(fresh, False)]
    assert s.stale == set()


def test_what_arrives_old_is_stale_without_an_event() -> None:
    s = live_positions()
    fix = make_fix(at_s=0)
    assert apply(s, [fix], BASE_MS + STALE_MS + 1) == [(fix, True)]
    assert s.stale == {"P001"}
    assert s.turn_stale(BASE_MS + 10 * STALE_MS) == []


def test_finished_is_never_stale() -> None:
    s = live_positions()
    apply(s, [make_fix(at_s=0, status=STOPPED)])
    apply(s, [make_fix(at_s=1, status=FINISHED)])
    assert s.turn_stale(BASE_MS + 10 * STALE_MS) == []
    assert apply(s, [make_fix("P2", at_s=0, status=FINISHED)], BASE_MS + 10 * STALE_MS)[0][1] is False
    assert s.next_due_ms() is None


def test_an_old_greater_fix_after_a_fresh_one_leaves_no_second_event() -> None:
    s = live_positions()
    apply(s, [make_fix(at_s=0)])
    late = make_fix(at_s=5)
    assert apply(s, [late], BASE_MS + 5_000 + STALE_MS + 1) == [(late, True)]
    assert s.turn_stale(BASE_MS + 10 * STALE_MS) == []


def test_a_crowd_turns_stale_some_at_a_time() -> None:
    s = live_positions()
    crowd = [make_fix(f"P{n}") for n in range(TURN + 1)]
    apply(s, crowd)
    late_ms = BASE_MS + STALE_MS + 1
    first = s.turn_stale(late_ms)
    assert len(first) == TURN
    assert s.next_due_ms() == late_ms
    assert {fix.id for fix in first + s.turn_stale(late_ms)} == {fix.id for fix in crowd}
    assert s.next_due_ms() is None


def test_nobody_is_live_after_it_is_cleared_and_who_comes_back_older_is_stale_in_time() -> None:
    s = live_positions()
    apply(s, [make_fix(at_s=20), make_fix("P2", at_s=-100)])
    s.clear()
    assert (s.newest, s.stale, s.next_due_ms()) == ({}, set(), None)
    older = make_fix(at_s=0)
    assert apply(s, [older]) == [(older, False)]
    assert s.turn_stale(BASE_MS + STALE_MS + 1) == [older]


def test_only_where_something_greater_is_live_a_fix_cannot_be_shown() -> None:
    s = live_positions()
    a, b = make_fix(at_s=0), make_fix(at_s=1)
    assert s.may_show(a)
    apply(s, [a])
    assert s.may_show(a)
    assert s.may_show(b)
    apply(s, [b])
    assert not s.may_show(a)


many_fixes = st.lists(
    st.builds(
        make_fix,
        st.sampled_from(["P1", "P2", "P3"]),
        st.integers(0, 5).map(float),
        lat=st.sampled_from([1.0, 2.0]),
        status=st.integers(0, 3),
    ),
    max_size=30,
)


@given(many_fixes, st.integers(0, 2**32))
def test_any_order_ends_in_the_same_standing(fixes: list[Fix], seed: int) -> None:
    a, b = live_positions(), live_positions()
    apply(a, fixes)
    shuffled = fixes + fixes
    random.Random(seed).shuffle(shuffled)
    for fix in shuffled:
        apply(b, [fix])
    assert a.newest == b.newest == {fix.participant_id: fix for fix in newest_of(fixes)}


@given(many_fixes)
def test_changes_only_rise(fixes: list[Fix]) -> None:
    s = live_positions()
    seen: dict[str, Fix] = {}
    for fix, _ in apply(s, fixes):
        assert fix.participant_id not in seen or fix.rank > seen[fix.participant_id].rank
        seen[fix.participant_id] = fix
    assert s.newest == seen
