"""Why a connection ended: the words for it, who may be to blame, and what is done about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mqtt.end import NOT_ABOUT_US, TAKEN_OVER, Ending, How
from actors.mqtt.version import Heard

NOT_ALLOWED = 0x87
TOPICS = ("a/+", "b/#")
endings = st.builds(
    Ending,
    how=st.sampled_from(How),
    text=st.just("connection lost"),
    code=st.integers(0, 255),
    accepted=st.booleans(),
    asked=st.sampled_from([(), TOPICS]),
    refused=st.sampled_from([(), TOPICS]),
    published=st.sampled_from(["", "r/P.1"]),
)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (Ending(How.CLOSED, "connection lost", accepted=True), "connection lost"),
        (
            Ending(How.CLOSED, "connection lost", accepted=True, asked=TOPICS, published="r"),
            "the broker closed the connection at our SUBSCRIBE to a/+, b/#: not allowed?",
        ),
        (
            Ending(How.CLOSED, "connection lost", accepted=True, published="r/P.1", refused=TOPICS),
            "the broker closed the connection at our PUBLISH to r/P.1: not allowed?",
        ),
        (
            Ending(How.CLOSED, "connection lost", accepted=True, refused=TOPICS),
            "the broker closed the connection after it refused our SUBSCRIBE to a/+, b/#",
        ),
        (
            Ending(How.LOST, "connection lost: Connection reset by peer", accepted=True, asked=("a",)),
            "connection lost: Connection reset by peer, at our SUBSCRIBE to a: not allowed?",
        ),
        (
            Ending(How.SAID, "the broker disconnected us: Not authorized", NOT_ALLOWED, accepted=True, asked=("a",)),
            "the broker disconnected us: Not authorized, at our SUBSCRIBE to a: not allowed?",
        ),
        (Ending(How.SAID, "shutting down", 0x8B, accepted=True, asked=TOPICS, published="r"), "shutting down"),
        (Ending(How.SILENT, "no answer", accepted=True, asked=TOPICS, published="r"), "no answer"),
    ],
)
def test_it_names_what_was_unanswered(ending: Ending, reason: str) -> None:
    assert ending.reason == reason


@pytest.mark.parametrize(
    ("ending", "heard"),
    [
        (Ending(How.CLOSED, "", accepted=True), Heard.ACCEPTED),
        (Ending(How.REFUSED, "", 0x84), Heard.NOT_THIS_VERSION),
        (Ending(How.REFUSED, "", 0x86), Heard.ANOTHER_NO),
        (Ending(How.OURS, ""), Heard.UNREACHED),
        (Ending(How.CLOSED, ""), Heard.NOTHING),
        (Ending(How.LOST, ""), Heard.NOTHING),
        (Ending(How.SILENT, ""), Heard.NOTHING),
        (Ending(How.GARBLED, ""), Heard.NOTHING),
    ],
)
def test_what_it_says_about_the_version(ending: Ending, heard: Heard) -> None:
    assert ending.heard is heard


@given(endings)
def test_a_rival_is_seen_only_where_nothing_else_explains_it(ending: Ending) -> None:
    alone = not (ending.asked or ending.refused or ending.published)
    assert ending.could_be_rival == (ending.how is How.CLOSED and ending.accepted and alone)
    assert ending.names_rival == (ending.how is How.SAID and ending.code == TAKEN_OVER)
    assert not (ending.could_be_rival and ending.blames_publish)


@given(endings)
def test_what_we_publish_is_blamed_for_what_the_broker_did_to_us(ending: Ending) -> None:
    ended_by_broker = ending.how in (How.CLOSED, How.LOST) or (
        ending.how is How.SAID and ending.code not in NOT_ABOUT_US
    )
    assert ending.blames_publish == (ended_by_broker and ending.published != "")


@given(endings)
def test_it_comes_back_later_where_it_is_not_wanted(ending: Ending) -> None:
    if ending.how is How.REFUSED or ending.names_rival:
        assert ending.unwanted
    if ending.how in (How.OURS, How.SILENT, How.GARBLED) or ending.could_be_rival:
        assert not ending.unwanted
    if ending.how is How.CLOSED and ending.asked:
        assert ending.unwanted
