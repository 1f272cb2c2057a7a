"""Ids: functions of what they name, and of nothing else."""

from __future__ import annotations

from hashlib import blake2b
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from actors.core.identity import fix_id, rejection_id

EXAMPLE = ("R2025-07", "P001", 1_751_357_730_000, -79_456_000, 1_126_145_000, 0)

names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=50)
fixes = st.tuples(
    names,
    names,
    st.integers(946_684_800_000, 253_402_300_799_999),
    st.integers(-900_000_000, 900_000_000),
    st.integers(-1_800_000_000, 1_800_000_000),
    st.integers(0, 3),
)


def test_the_example_of_the_contract() -> None:
    assert str(UUID(bytes=fix_id(*EXAMPLE))) == "0197c50e-2cd0-8308-91bb-9f03721812bf"


@given(fixes)
def test_bits_are_where_the_contract_says(fix: tuple[str, str, int, int, int, int]) -> None:
    race_id, participant_id, ms, lat_e7, lon_e7, status = fix
    said = b"fix1"
    for name in (race_id.encode(), participant_id.encode()):
        said += len(name).to_bytes(2, "big") + name
    said += ms.to_bytes(8, "big", signed=True)
    said += lat_e7.to_bytes(4, "big", signed=True) + lon_e7.to_bytes(4, "big", signed=True) + bytes([status])
    hash_bits = "".join(f"{byte:08b}" for byte in blake2b(said, digest_size=10).digest())[:74]
    expected = f"{ms:048b}" + "1000" + hash_bits[:12] + "10" + hash_bits[12:]
    made = fix_id(*fix)
    assert "".join(f"{byte:08b}" for byte in made) == expected
    assert (UUID(bytes=made).version, UUID(bytes=made).variant) == (8, RFC_4122)


def test_every_part_counts() -> None:
    ids = {
        fix_id(*EXAMPLE),
        fix_id("R2025-0", "7P001", *EXAMPLE[2:]),  # the same letters, parted elsewhere
        fix_id("P001", "R2025-07", *EXAMPLE[2:]),
        fix_id(*EXAMPLE[:2], EXAMPLE[2] + 1, *EXAMPLE[3:]),
        fix_id(*EXAMPLE[:3], EXAMPLE[3] + 1, *EXAMPLE[4:]),
        fix_id(*EXAMPLE[:4], EXAMPLE[4] + 1, EXAMPLE[5]),
        fix_id(*EXAMPLE[:5], 1),
    }
    assert len(ids) == 7


@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 1000), st.sampled_from(["bad_json", "bad_id"]))
def test_a_rejection_is_the_same_row_each_time(topic: bytes, payload: bytes, element: int, code: str) -> None:
    made = rejection_id(topic, payload, element, code)
    assert made == rejection_id(topic, payload, element, code)
    assert (UUID(bytes=made).version, UUID(bytes=made).variant) == (8, RFC_4122)
    others = {
        rejection_id(topic + b"x", payload, element, code),
        rejection_id(topic, payload + b"x", element, code),
        rejection_id(topic, payload, element + 1, code),
        rejection_id(topic, payload, element, "poison"),
    }
    assert made not in others
    assert len(others) == 4


def test_a_rejections_parts_do_not_run_into_each_other() -> None:
    assert rejection_id(b"ab", b"c", 0, "bad_json") != rejection_id(b"a", b"bc", 0, "bad_json")
