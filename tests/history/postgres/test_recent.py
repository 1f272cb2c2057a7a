"""What PostgreSQL has confirmed of late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.history.postgres.recent import KEPT_ROWS, KEPT_S, Recent, RecentBatch

HERE, THERE = object(), object()


def batch(confirmed_s: float, rows: int = 1, session: object = HERE) -> RecentBatch:
    return RecentBatch((b"",), rows, confirmed_s, session)


def rows_of(one: RecentBatch) -> int:
    return one.rows


@given(st.lists(st.tuples(st.floats(0, 6), st.integers(1, KEPT_ROWS + 1)), max_size=20))
def test_the_newest_are_kept_as_many_as_there_is_room_and_time_for(steps: list[tuple[float, int]]) -> None:
    recent, now, added = Recent(), 0.0, list[RecentBatch]()
    for pause_s, rows in steps:
        now += pause_s
        added.append(batch(now, rows))
        recent.add(added[-1])
        kept = list(recent.confirmed_elsewhere(THERE))
        assert kept == added[len(added) - len(kept) :]
        assert sum(one.rows for one in kept) <= KEPT_ROWS
        assert all(one.confirmed_s >= now - KEPT_S for one in kept)
        gone = added[: len(added) - len(kept)]
        assert not gone or gone[-1].confirmed_s < now - KEPT_S or sum(map(rows_of, [*kept, gone[-1]])) > KEPT_ROWS


def test_nothing_is_written_again_to_who_confirmed_it() -> None:
    recent = Recent()
    for number in range(3):
        recent.add(batch(number))
    assert list(recent.confirmed_elsewhere(HERE)) == []
    for each in recent.confirmed_elsewhere(THERE):
        each.session = THERE
        break
    assert [each.confirmed_s for each in recent.confirmed_elsewhere(THERE)] == [1, 2]


def test_time_counts_from_the_last_confirmation() -> None:
    """In an outage nothing is forgotten, however long it is."""
    recent = Recent()
    recent.add(batch(0))
    recent.add(batch(5))
    assert len(list(recent.confirmed_elsewhere(THERE))) == 2
    recent.add(batch(1000))
    assert [each.confirmed_s for each in recent.confirmed_elsewhere(THERE)] == [1000]


def test_while_nothing_is_stored_it_counts_from_each_answer() -> None:
    recent = Recent()
    recent.add(batch(0))
    recent.add(batch(5))
    recent.answered(KEPT_S + 1)
    assert [each.confirmed_s for each in recent.confirmed_elsewhere(THERE)] == [5]
    recent.answered(1000)
    assert list(recent.confirmed_elsewhere(THERE)) == []
