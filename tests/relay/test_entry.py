"""What goes through the stream between nodes: read as it was written, and what is missing shows."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.relay.entry import AGAIN, FRAME, Entry, Hearing, Item, Sender, read_entry, write_entry

items = st.builds(Item, st.text(max_size=20), st.sampled_from([FRAME, AGAIN]), st.binary(max_size=50))


senders = st.builds(Sender, st.text(max_size=20), st.integers(0, 65535))


@given(st.builds(Entry, st.text(max_size=40), st.integers(1, 2**53), st.lists(items, max_size=5), senders))
def test_an_entry_is_read_as_it_was_written(entry: Entry) -> None:
    assert read_entry(write_entry(entry)) == entry


@given(st.binary(max_size=60))
def test_what_nobody_of_ours_wrote_is_no_entry(data: bytes) -> None:
    entry = read_entry(data)
    assert entry is None or read_entry(write_entry(entry)) == entry


def test_nodes_of_the_version_before_and_of_the_next_one_are_understood() -> None:
    encode = msgspec.msgpack.encode
    assert read_entry(encode(["run", 1, []])) == Entry("run", 1, [])
    assert read_entry(encode(["run", 1, [], ["node", 7, "new"], "new"])) == Entry("run", 1, [], Sender("node", 7))


def test_nothing_is_missing_where_numbers_follow_each_other() -> None:
    hearing = Hearing(3.0)
    assert hearing.hears("a", 7, 0.0), "of what came before, a race knows from the stores"
    assert hearing.hears("b", 1, 0.0)
    assert hearing.hears("a", 8, 0.0)
    assert not hearing.hears("a", 10, 0.0)
    assert hearing.hears("a", 11, 0.0)
    assert hearing.hears("b", 2, 0.0)


@given(st.sets(st.integers(1, 30)), st.integers(31, 40))
def test_whatever_is_lost_shows_with_the_next_that_comes(lost: set[int], count: int) -> None:
    hearing = Hearing(3.0)
    hearing.hears("a", 0, 0.0)
    heard = [number for number in range(1, count + 1) if number not in lost]
    gaps = [number for number in heard if not hearing.hears("a", number, 0.0)]
    assert gaps == [number for number in heard if number - 1 in lost]


@pytest.mark.parametrize("silence_s", [1.0, 3.0])
def test_who_says_nothing_for_long_is_forgotten_and_told_once(silence_s: float) -> None:
    hearing = Hearing(silence_s)
    hearing.hears("a", 1, 0.0)
    hearing.hears("b", 1, 0.5)
    assert hearing.forget_silent(silence_s) == set()
    assert hearing.forget_silent(silence_s + 0.1) == {"a"}
    assert hearing.forget_silent(silence_s + 0.1) == set()
    assert hearing.hears("a", 5, 9.0)
    assert not hearing.hears("b", 9, 9.0)
