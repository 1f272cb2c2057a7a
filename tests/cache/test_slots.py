"""Which node of a cluster owns a key."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cache.keys import Keys
from actors.cache.slots import SLOTS, slot_map, slot_of

A, B = ("10.0.0.1", 1), ("10.0.0.2", 2)


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 0x31C3), ("foo", 12182), ("tracking:relay", 7942), ("{user1000}.following", 3443),
        ("{user1000}.followers", 3443), ("foo{{bar}}zap", slot_of("{bar")), ("foo{bar}{zap}", slot_of("bar")),
    ],
)  # fmt: skip
def test_as_redis_counts_them(key: str, slot: int) -> None:
    """The numbers of the cluster specification, and of CLUSTER KEYSLOT."""
    assert slot_of(key) == slot


@pytest.mark.parametrize("key", ["foo{}{bar}", "foo{bar", "foo}bar{", "}{", "{}"])
def test_braces_without_anything_between_count_as_text(key: str) -> None:
    assert slot_of(key) == crc_hqx(key.encode(), 0) % SLOTS


IDS = st.text(st.characters(categories=["L", "M", "Nd"], include_characters="._-@"), min_size=1, max_size=50)


@given(IDS, IDS)
def test_all_keys_of_a_race_are_in_one_slot(race: str, participant: str) -> None:
    keys = Keys(in_cluster=True)
    assert {slot_of(key) for key in (keys.last(race, participant), keys.seen(race), keys.rank(race))} == {slot_of(race)}


def test_owners_and_a_tag_for_each() -> None:
    told: list[Any] = [
        [0, 99, [b"10.0.0.1", 1, b"id"], [b"10.0.0.3", 3, b"replica"]],
        [100, 16_000, [b"10.0.0.2", 2, b"id", [b"hostname", b"x"]]],
        [16_100, 16_200, [b"10.0.0.1", 1, b"id"]],
    ]
    found = slot_map(told, "asked")
    assert found.tags.keys() == {A, B}
    for node, tag in found.tags.items():
        assert found.owner(f"mark:{{{tag}}}") == node
    assert [found.owners[slot] for slot in (0, 99, 100, 16_001, 16_100, 16_201)] == [A, A, B, None, A, None]
    assert slot_map(told, "asked").tags == found.tags, "the same again"
    assert slot_map([], "asked").tags == {}


@pytest.mark.parametrize("host", [None, b"", b"?"])
def test_a_node_that_does_not_know_its_name_is_called_as_it_was_asked(host: object) -> None:
    assert set(slot_map([[0, SLOTS - 1, [host, 7, b"id"]]], "asked").tags) == {("asked", 7)}


@pytest.mark.parametrize("told", [1, None, b"x", [1], [[0, 1]], [[0, 1, [b"h"]]], [[0, SLOTS, [b"h", 1]]], [[0, 1, 2]]])
def test_what_is_no_answer(told: object) -> None:
    with pytest.raises(ValueError, match="not an answer to CLUSTER SLOTS"):
        slot_map(told, "asked")
