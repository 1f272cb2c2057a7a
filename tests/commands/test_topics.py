"""Topics of what the commands publish."""

from __future__ import annotations

import pytest

from actors.commands.publisher import Topics
from actors.core.rejection import payload_of
from actors.ingest.decode import decode
from actors.ingest.validate import Rules
from actors.settings.load import MqttSettings
from tests.kit.making import BASE_MS, make_fix


@pytest.mark.parametrize(
    ("topic_filter", "identity", "topic"),
    [
        ("tracking/+/position", "none", "tracking/P1/position"),
        ("tracking/+/position", "participant_id", "tracking/P1/position"),
        ("tracking/+/position", "race_id", "tracking/R1/position"),
        ("race/+/participant/+", "race_id", "race/R1/participant/P1"),
        ("a/+/+/+", "none", "a/P1/R1/x"),
        ("tracking/+/#", "none", "tracking/P1/position"),
        ("tracking/#", "none", "tracking/P1"),
        ("#", "race_id", "R1"),
        ("+", "none", "P1"),
        ("fixed", "none", "fixed"),
    ],
)
def test_the_topic_is_one_that_the_daemon_listens_to(topic_filter: str, identity: str, topic: str) -> None:
    topics = Topics.of(MqttSettings(topics=(topic_filter, "another/+"), topic_identity=identity))
    assert topics.topic("P1", "R1") == topic
    if identity != "none":
        payload = payload_of(make_fix("P1", race_id="R1"))
        rules = Rules(10_000, topic_identity=identity, topics=(topic_filter,))
        expected = [] if "+" in topic_filter else ["topic_mismatch"]
        assert [row.code for row in decode(topic.encode(), payload, BASE_MS, rules)[1]] == expected


@pytest.mark.parametrize(
    ("participant_id", "level"),
    [("", "unknown"), ("a/b+c#d$", "a_b_c_d_"), ("\0\n\u200f", "___"), ("Zoë", "Zoë"), ("x" * 500, "x" * 100)],
)
def test_what_a_topic_cannot_hold_is_replaced(participant_id: str, level: str) -> None:
    assert Topics(("t", "+"), by_race=False).topic(participant_id, "R") == f"t/{level}"
