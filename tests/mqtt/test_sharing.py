"""What the answers of a broker to the probe mean, and which nodes they stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mqtt.sharing import Answer, Sharing, judge, refusal

NO_RIGHT, NOT_SUPPORTED = 0x87, 0x9E


@given(
    st.booleans(),
    st.sampled_from([None, ("f", 0x80), ("f", NO_RIGHT), ("f", NOT_SUPPORTED)]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["", "Not authorized"]),
)
def test_only_what_came_proves_and_only_what_should_have_come_disproves(
    has_shared: bool, refused: tuple[str, int] | None, shared: int, plain: int, unpublished: str
) -> None:
    answer = judge(
        has_shared=has_shared, refused=refused, shared=shared, plain=plain, unpublished=unpublished, topics="g-probe/#"
    )
    says_so = not has_shared or refused == ("f", NOT_SUPPORTED)
    if says_so or (plain and not shared and not refused):
        assert answer.sharing is Sharing.DOES_NOT
    elif shared:
        assert answer.sharing is Sharing.SHARES
    else:
        assert answer.sharing is Sharing.UNTOLD
        assert "let this user read and write g-probe/#" in answer.text
        assert not unpublished or refused or unpublished in answer.text


@pytest.mark.parametrize("proven", [True, False])
def test_who_is_stopped(proven: bool) -> None:
    assert refusal(Answer(Sharing.SHARES), proven=proven) == ""
    assert "cannot work with it" in refusal(Answer(Sharing.DOES_NOT, "does nothing"), proven=proven)
    untold = refusal(Answer(Sharing.UNTOLD, "says nothing; allow it"), proven=proven)
    assert untold == (
        ""
        if proven
        else "the broker says nothing; allow it: whether [cluster] ingest = shared works with it cannot be told"
    )
