"""What is settled of a batch of which some fixes have no partition, and what is said of them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from actors.core.fix import Fix
from actors.core.parcel import Parcel, ParcelId
from actors.core.rejection import Rejection
from actors.core.timestamps import parse_ms
from actors.history.partitions import months, no_partition, set_apart, to_log
from actors.history.periods import Width, month_of, sql_of
from tests.kit.making import BASE_MS, make_fix

FIXES = [make_fix(at_s=number) for number in range(6)]
REJECTION = Rejection(b"r" * 16, 0, "t", b"{", "bad_json", "x")
parcels = st.lists(
    st.tuples(st.lists(st.sampled_from(FIXES), max_size=5), st.booleans()).map(
        lambda part: (tuple(part[0]), (REJECTION,) * part[1])
    ),
    max_size=5,
).map(lambda parts: [Parcel((1, n), "R1", *part) for n, part in enumerate(parts)])


def at(*texts: str) -> list[Fix]:
    return [make_fix(at_s=((parse_ms(text) or 0) - BASE_MS) / 1000) for text in texts]


@given(parcels, st.sets(st.sampled_from([fix.id for fix in FIXES])))
def test_each_fix_is_settled_or_left(batch: list[Parcel], left: set[bytes]) -> None:
    apart = set_apart(batch, left)
    kept = {parcel.id: parcel.fixes for parcel in apart.left}
    but = dict(apart.but)
    assert set(apart.whole) | but.keys() == {parcel.id for parcel in batch}
    assert not set(apart.whole) & but.keys()
    assert {parcel: len(fixes) for parcel, fixes in kept.items()} == but
    for parcel in batch:
        fixes = kept.get(parcel.id, ())
        assert all(fix.id in left for fix in fixes)
        assert not any(fix.id in left for fix in (Counter(parcel.fixes) - Counter(fixes)))
    assert all(parcel.rejections == () and parcel.race_id == "R1" for parcel in apart.left)


def test_one_that_is_in_a_parcel_twice_is_left_twice() -> None:
    whole: ParcelId = (1, 1)
    apart = set_apart([Parcel((1, 0), "R1", (FIXES[0], FIXES[1], FIXES[0])), Parcel(whole, "R1", ())], {FIXES[0].id})
    assert apart.whole == (whole,)
    assert apart.but == (((1, 0), 2),)
    assert apart.left == [Parcel((1, 0), "R1", (FIXES[0], FIXES[0]))]


def test_months_are_those_of_utc() -> None:
    assert months(at("2020-02-29T23:59:59.999Z", "2020-03-01T00:00:00+01:00", "2020-02-29T23:00:00-02:00")) == {
        "2020-02",
        "2020-03",
    }


def test_a_component_names_a_few_months() -> None:
    assert no_partition({"2020-02"}, 1, "in the spool") == (
        "set-up: tracking_positions has no partition for 2020-02: 1 fixes wait in the spool"
    )
    many = {f"2020-0{month}" for month in range(1, 6)}
    assert "for 2020-01, 2020-02, 2020-03 and 2 other months: 7 fixes" in no_partition(many, 7, "in the spool")


def test_the_log_says_when_they_were_and_what_to_make() -> None:
    told = to_log(at("2021-12-31T12:00:00Z", "2020-02-15T08:00:00.25Z"), "RANGE (id)")
    assert told == {
        "fixes": 2,
        "timestamp": "2020-02-15T08:00:00.250Z",
        "newest": "2021-12-31T12:00:00.000Z",
        "months": "2020-02, 2021-12",
        "what_to_do": "; ".join(sql_of(month_of("2020-02"), Width.MONTH)),
    }
    (fix,) = at("2021-12-31T12:00:00Z")
    told = to_log([fix, fix], "HASH (id)")
    assert "newest" not in told
    assert told["what_to_do"] == "make a partition for it (partition by HASH (id))"
