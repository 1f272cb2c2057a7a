"""Pauses in which messages gather: as long as they may be, no longer than what comes fits into the socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mqtt.pace import BACKLOG_BYTES, GATHER_BYTES, LEAST_S, MOST_S, Pace

NOW = 1000.0
MESSAGE_BYTES = 150


def pause_s(pace: Pace, payload_bytes: int, now: float) -> float:
    pace.read(payload_bytes, now)
    return pace.left_s(now)


def test_a_lone_message_is_followed_by_the_longest_pause_and_an_empty_read_by_none() -> None:
    pace = Pace(0.05)
    assert pace.left_s(NOW) == pace.waited_s(NOW) == 0
    assert pause_s(pace, MESSAGE_BYTES, NOW) == pytest.approx(0.05)
    assert pace.left_s(NOW + 0.03) == pytest.approx(0.02)
    assert pace.waited_s(NOW + 0.05) == pytest.approx(0.05)
    assert pace.waited_s(NOW + 60) == 0.05, "the rest of it nobody read, for another reason"
    assert pause_s(pace, 0, NOW + 0.05) == 0
    assert pace.waited_s(NOW + 60) == 0, "what comes from now on is read at once"


def test_a_pause_that_is_cut_short_was_none() -> None:
    pace = Pace(0.05)
    pace.read(MESSAGE_BYTES, NOW)
    pace.go_on()
    assert pace.left_s(NOW + 0.01) == pace.waited_s(NOW + 0.01) == 0


@pytest.mark.parametrize(("wanted_s", "longest_s"), [(0, LEAST_S), (0.04, 0.04), (60, MOST_S)])
def test_the_longest_pause_has_bounds(wanted_s: float, longest_s: float) -> None:
    assert pause_s(Pace(wanted_s), MESSAGE_BYTES, NOW) == pytest.approx(longest_s)


@given(st.floats(1, 1e8))
def test_at_a_steady_rate_what_gathers_fits(bytes_per_s: float) -> None:
    pace, now, came = Pace(MOST_S), NOW, MESSAGE_BYTES
    for turn in range(20):
        pause = pause_s(pace, came, now)
        wait_s = max(pause, MESSAGE_BYTES / bytes_per_s)
        assert pause <= MOST_S + 1e-9
        came = round(wait_s * bytes_per_s)
        now += wait_s
        assert came <= GATHER_BYTES * 1.01 + MESSAGE_BYTES or turn == 0, "nobody knows what a first one begins"


def test_a_backlog_is_read_without_a_pause() -> None:
    pace = Pace(MOST_S)
    assert pause_s(pace, BACKLOG_BYTES, NOW) == 0
    assert pause_s(pace, BACKLOG_BYTES - 1, NOW + 1) > 0
