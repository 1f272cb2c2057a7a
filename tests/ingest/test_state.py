"""What the reader works at: a race is told of the fixes that no store may know yet."""

from __future__ import annotations

from actors.core.fix import Fix
from actors.ingest.state import ReaderState, parcels
from tests.kit.making import make_fix


def taken(state: ReaderState, fixes: list[Fix]) -> int:
    """As the reader does it, with one fix a parcel. The number of the entry."""
    shown, _ = parcels(state.ledger.next_number(), 1, fixes, [])
    open_parts = {parcel.id[1]: 1 for parcel in shown}
    entry = state.ledger.open(1, (), open_parts, 10, 0.0)
    state.took(entry, shown)
    return entry


def test_a_race_is_told_of_its_open_parcels_alone() -> None:
    state = ReaderState()
    state.ledger.begin_epoch(1)
    first, second, other = make_fix("a", race_id="ultra"), make_fix("b", race_id="ultra"), make_fix("a", race_id="city")
    entry = taken(state, [first, second, other])
    assert list(state.fixes_in_flight("ultra")) == [first, second]
    state.settled([(entry, 0)])
    assert list(state.fixes_in_flight("ultra")) == [second]
    assert list(state.fixes_in_flight("city")) == [other]
    assert list(state.fixes_in_flight("nobody")) == []
    state.settled([(entry, 1), (entry, 2)])
    assert list(state.fixes_in_flight("ultra")) == []


def test_of_a_parcel_that_is_settled_but_for_some_fixes_these_are_in_flight() -> None:
    state = ReaderState()
    state.ledger.begin_epoch(1)
    shown, _ = parcels(state.ledger.next_number(), 2, [make_fix("a"), make_fix("b")], [])
    entry = state.ledger.open(1, (), {0: 2}, 10, 0.0)
    state.took(entry, shown)
    state.settled([], [((entry, 0), 1)])
    assert state.ledger.fixes_in_flight == 1
    assert len(list(state.fixes_in_flight("R1"))) == 2, "which of them is not known here"
    state.settled([(entry, 0)])
    assert state.ledger.fixes_in_flight == 0
