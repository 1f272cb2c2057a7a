"""The breaker: open after a while without PostgreSQL, and closed by what shows that rows will be taken again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.history.breaker import PATIENCE_LEAST_S, Breaker

AFTER_S = 3.0


def test_it_opens_a_while_after_the_first_call_that_failed_was_begun() -> None:
    breaker = Breaker(AFTER_S)
    assert not breaker.is_open(1e9)
    breaker.failed(10)
    breaker.failed(11)
    assert [breaker.is_open(at) for at in (10, 12.9, 13, 1e9)] == [False, False, True, True]


def test_an_answer_closes_it_where_nothing_waits() -> None:
    breaker = Breaker(AFTER_S)
    breaker.failed(10)
    assert breaker.answered()
    assert not breaker.is_open(1e9)
    breaker.failed(20)
    assert not breaker.is_open(22), "it counts from there"


def test_while_a_batch_waits_only_its_commit_closes_it() -> None:
    """A PostgreSQL that is read-only, or whose disk is full, answers all the same."""
    breaker = Breaker(AFTER_S)
    breaker.failed(10, writing=True)
    assert not breaker.answered()
    breaker.failed(11)
    assert breaker.is_open(13)
    breaker.committed()
    assert not breaker.is_open(1e9)
    assert breaker.answered()


def test_once_the_batch_is_in_the_spool_an_answer_is_enough() -> None:
    breaker = Breaker(AFTER_S)
    breaker.failed(10, writing=True)
    breaker.spooled()
    assert breaker.is_open(13), "nobody has heard of PostgreSQL"
    assert breaker.answered()
    assert not breaker.is_open(13)


def test_a_wrong_set_up_is_no_outage_and_its_batch_waits_for_its_commit() -> None:
    breaker = Breaker(AFTER_S)
    breaker.failed(10)
    breaker.set_up_wrong(writing=True)
    assert not breaker.is_open(1e9)
    assert not breaker.answered()
    breaker.committed()
    assert breaker.answered()


def test_patience_is_as_long_as_the_outage_that_is_waited_out_but_time_for_an_answer() -> None:
    assert Breaker(AFTER_S).patience_s == AFTER_S
    assert Breaker(0).patience_s == PATIENCE_LEAST_S


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["failed", "failed writing", "set_up_wrong", "answered", "committed", "spooled"]),
        st.floats(0, 10),
    )
)


@given(STEPS)
def test_open_means_that_all_calls_of_the_last_seconds_failed(steps: list[tuple[str, float]]) -> None:
    """And closed that one of them did not, or that the first failed call was not that long ago."""
    breaker, now, failing_since, waits = Breaker(AFTER_S), 0.0, None, False
    for step, later_s in steps:
        now += later_s
        match step:
            case "failed" | "failed writing":
                breaker.failed(now, writing="writing" in step)
                waits |= "writing" in step
                failing_since = now if failing_since is None else failing_since
            case "answered":
                assert breaker.answered() is not waits
                failing_since = failing_since if waits else None
            case "spooled":
                breaker.spooled()
                waits = False
            case "set_up_wrong" | "committed":
                getattr(breaker, step)()
                failing_since, waits = None, waits and step != "committed"
        for at in (now, now + AFTER_S / 2, now + AFTER_S):
            assert breaker.is_open(at) == (failing_since is not None and at - failing_since >= AFTER_S)
