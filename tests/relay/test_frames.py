"""A frame of another node: its positions are read, and it goes on to our dashboards as it came."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.fix import Fix
from actors.core.position import position_json
from actors.dashboards import events
from actors.dashboards.frames import Frame
from actors.relay.frames import read_frame, write_frame
from tests.kit.making import make_fix
from tests.kit.websocket import texts_of


def event_of(fixes: list[Fix]) -> bytes:
    return events.changes_event("R1", [position_json(fix, fix.status == 1) for fix in fixes])


many = st.lists(
    st.builds(make_fix, st.sampled_from(["P1", "Zoë"]), st.floats(-1e5, 1e5), status=st.integers(0, 3)),
    min_size=1,
    max_size=30,
)


@given(many, st.booleans())
def test_positions_are_those_that_were_shown(fixes: list[Fix], compressing: bool) -> None:
    data = write_frame(Frame(event_of(fixes)), compressing)
    shown = read_frame(data, "R1")
    assert shown is not None
    assert [(fix.participant_id, fix.rank, fix.arrived_ms) for fix in shown.fixes] == [
        (fix.participant_id, fix.rank, fix.arrived_ms) for fix in fixes
    ]
    assert list(shown.stale) == [fix.status == 1 for fix in fixes]
    assert texts_of([shown.frame.plain]) == texts_of([shown.frame.deflated]) == [event_of(fixes)]


def test_it_is_not_deflated_again() -> None:
    data = write_frame(Frame(event_of([make_fix(f"P{n}") for n in range(20)])), True)
    shown = read_frame(data, "R1")
    assert shown is not None
    assert shown.frame.deflated is data


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 20, -1])
def test_a_cut_frame_is_none(cut: int) -> None:
    for compressing in (False, True):
        data = write_frame(Frame(event_of([make_fix(f"P{n}") for n in range(20)])), compressing)
        assert read_frame(data[:cut], "R1") is None


@given(st.binary(max_size=40))
def test_what_nobody_of_ours_wrote_is_none(data: bytes) -> None:
    assert read_frame(data, "R1") is None


def test_positions_of_another_race_or_that_are_none_are_not_taken() -> None:
    wrong = msgspec.json.decode(position_json(make_fix(), False))
    for change in ({"status": "flying"}, {"latitude": 91.0}, {"timestamp": "soon"}, {"raceId": "R2"}):
        event = events.update_event(msgspec.json.encode(wrong | change))
        assert read_frame(Frame(event).plain, "R1") is None
    stale = events.stale_event("R1", "P1", 0)
    assert read_frame(Frame(stale).plain, "R1") is None
