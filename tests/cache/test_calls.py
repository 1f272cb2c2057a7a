"""Positions to write -> calls of the script."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cache.calls import SCRIPT_ROWS, Call, Command, writes
from actors.cache.keys import Keys
from actors.cache.slots import slot_of
from actors.core.fix import Fix
from tests.kit.making import make_fix


def content(call: Call) -> tuple[list[tuple[str, str]], list[str]]:
    """(race, participant) of each position, and the races to forget."""
    given_, forget = (msgspec.msgpack.decode(packed, type=list[str]) for packed in map(as_bytes, call.args[-2:]))
    return list(zip(given_[::4], given_[1::4], strict=True)), forget


def as_bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


def positions(races: int, each: int) -> list[Fix]:
    return [make_fix(f"P{n}", race_id=f"R{race}") for n in range(each) for race in range(races)]


@given(st.integers(0, 4), st.sampled_from([0, 1, 600]), st.sets(st.sampled_from(["R0", "R1", "R9"])), st.booleans())
def test_every_position_once_and_forgetting_comes_first(
    races: int, each: int, forget: Collection[str], in_cluster: bool
) -> None:
    fixes = positions(races, each)
    calls = list(writes(fixes, forget, Keys(in_cluster), 600))
    written: list[tuple[str, str]] = []
    forgotten: list[str] = []
    for call in calls:
        some, gone = content(call)
        assert not {race for race, _ in written} & set(gone)
        assert 0 < len(some) + len(gone) <= SCRIPT_ROWS + 3
        written += some
        forgotten += gone
    assert sorted(written) == sorted((fix.race_id, fix.participant_id) for fix in fixes)
    assert sorted(forgotten) == sorted(forget)


def test_alone_races_share_a_call_whose_keys_nobody_has_to_know() -> None:
    fixes = positions(3, 300)
    calls = list(writes(fixes, (), Keys(in_cluster=False), 600))
    assert [len(content(call)[0]) for call in calls] == [500, 400]
    assert [call.keys for call in calls] == [(), ()]
    assert calls[0].by_name().words[0] == "EVALSHA"
    assert calls[0].by_name().key == ""
    assert calls[0].in_full().words[1] == calls[0].script


def test_in_a_cluster_a_call_is_of_one_race_and_declares_its_keys() -> None:
    (first, second) = writes(positions(2, 2), ["R1"], Keys(in_cluster=True), 600)
    assert second.keys == (
        "race:{R0}:seen", "race:{R0}:rank", "race:{R0}:participant:P0:last", "race:{R0}:participant:P1:last",
    )  # fmt: skip
    assert content(first)[1] == ["R1"]
    for call in (first, second):
        assert len({slot_of(key) for key in call.keys}) == 1
        assert call.by_name() == Command(call.keys[0], ("EVALSHA", call.by_name().words[1], 4, *call.keys, *call.args))


@pytest.mark.parametrize("in_cluster", [False, True])
def test_nothing_is_no_call(in_cluster: bool) -> None:
    assert list(writes([], [], Keys(in_cluster), 600)) == []
