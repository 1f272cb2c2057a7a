"""MQTT 5 or 3.1.1: what is spoken next after what was heard, against brokers of every kind."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mqtt.version import Heard, Version

ACCEPTED, ANOTHER_NO, NOT_THIS, NOTHING, UNREACHED = Heard


def both(_: str) -> Heard:
    return ACCEPTED


def old_and_says_so(speaks: str) -> Heard:
    return NOT_THIS if speaks == "5" else ACCEPTED


def old_and_closes(speaks: str) -> Heard:
    return NOTHING if speaks == "5" else ACCEPTED


def five_only(speaks: str) -> Heard:
    return ACCEPTED if speaks == "5" else NOT_THIS


def attempts(version: Version, answers: Callable[[str], Heard], most: int = 20) -> list[str]:
    """What is spoken until a connection stands, each version as it was tried."""
    tried: list[str] = []
    while len(tried) < most:
        tried.append(version.speaks)
        question, heard = version.is_question, answers(version.speaks)
        version.heard(heard)
        if heard is ACCEPTED and not question:
            return tried
    raise AssertionError(tried)


@pytest.mark.parametrize(
    ("answers", "tried"),
    [
        (both, ["5"]),
        (five_only, ["5"]),
        (old_and_says_so, ["5", "3.1.1"]),
        (old_and_closes, ["5", "3.1.1", "5", "3.1.1"]),
    ],
)
def test_what_it_ends_with(answers: Callable[[str], Heard], tried: list[str]) -> None:
    version = Version("auto")
    assert attempts(version, answers) == tried
    assert attempts(version, answers) == tried[-1:], "and remembers"
    assert version.fell_back == (tried[-1] == "3.1.1")


def test_the_questions_of_one_broker_follow_at_once() -> None:
    version = Version("auto")
    assert version.heard(NOTHING)
    assert version.is_question
    assert version.heard(ACCEPTED)
    assert version.heard(NOTHING)
    assert not version.heard(ACCEPTED)
    assert not version.heard(ACCEPTED), "the next connection"
    assert not version.heard(NOTHING), "3.1.1 is no good any more: that may last"


@given(st.lists(st.sampled_from(Heard), max_size=30))
def test_a_broker_with_mqtt_5_ends_on_it_whatever_came_before(past: list[Heard]) -> None:
    """Starting, overloaded, behind a proxy: as long as it never said that it has no MQTT 5, nor answered to 3.1.1
    twice while it ended MQTT 5 in between."""
    version = Version("auto")
    for heard in past:
        version.heard(heard)
    if not version.fell_back:
        assert attempts(version, both)[-1] == "5"


@given(st.lists(st.sampled_from([NOTHING, UNREACHED]), max_size=30))
def test_a_broker_that_is_away_settles_nothing(past: list[Heard]) -> None:
    version = Version("auto")
    for heard in past:
        version.heard(heard)
        assert not version.fell_back
    assert attempts(version, both)[-1] == "5"


@given(st.lists(st.sampled_from([ACCEPTED, ANOTHER_NO, UNREACHED]), max_size=30))
def test_an_established_session_keeps_its_version(later: list[Heard]) -> None:
    for answers, speaks in ((both, "5"), (old_and_says_so, "3.1.1"), (old_and_closes, "3.1.1")):
        version = Version("auto")
        attempts(version, answers)
        for heard in later:
            assert not version.heard(heard)
            assert version.speaks == speaks


def test_a_broker_that_was_upgraded_is_asked_for_mqtt_5_when_3_1_1_fails() -> None:
    version = Version("auto")
    attempts(version, old_and_says_so)
    assert attempts(version, five_only) == ["3.1.1", "5"]
    assert not version.fell_back


def test_a_slow_broker_is_given_the_time_that_it_needs() -> None:
    version = Version("auto")
    assert version.patience_s == 3, "MQTT 5"
    version.heard(NOTHING, 3)
    assert version.patience_s == math.inf, "3.1.1"
    version.heard(ACCEPTED, 2.5)
    assert version.patience_s == 7.5, "MQTT 5 again"
    assert Version("5").patience_s == Version("3.1.1").patience_s == math.inf


@given(st.lists(st.sampled_from(Heard), max_size=30), st.sampled_from(["5", "3.1.1"]))
def test_a_version_that_was_set_stays(past: list[Heard], wanted: str) -> None:
    version = Version(wanted)
    for heard in past:
        assert not version.heard(heard)
        assert (version.speaks, version.is_question, version.fell_back) == (wanted, False, False)


@pytest.mark.parametrize("heard", Heard)
def test_the_hint(heard: Heard) -> None:
    helps = heard in (NOTHING, NOT_THIS)
    assert Version("auto").hint(heard) == ""
    assert Version("5").hint(heard) == ("; try [mqtt] protocol = auto or 3.1.1" if helps else "")
    assert Version("3.1.1").hint(heard) == ("; try [mqtt] protocol = auto or 5" if helps else "")
