"""Receipts: one a participant and race, as sent, repetitions included; nothing unreadable gets into a topic."""

from __future__ import annotations

import json

import attrs
import msgspec

from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.core.topic_filter import receipt_filter
from actors.ingest.messages import ReaderMessage, Tell
from actors.ingest.receipts import receipts, teller
from tests.kit.making import make_fix

TEMPLATE = "tracking/{participant_id}/receipt/{race_id}"


def sent(fix: Fix, timestamp: str) -> Fix:
    return msgspec.structs.replace(fix, sent_timestamp=timestamp)


def rejected(participant_id: str | None, timestamp: str | None = "t9", race_id: str | None = "R1") -> Rejection:
    row = Rejection(b"0" * 16, 0, "t", b"", "bad_coordinate", "")
    return attrs.evolve(row, participant_id=participant_id, race_id=race_id, sent_timestamp=timestamp)


def test_one_message_a_participant_and_race() -> None:
    fixes = [
        sent(make_fix("P1"), "t1"),
        sent(make_fix("P2"), "t1"),
        sent(make_fix("P1", at_s=1), "t2"),
        sent(make_fix("P1"), "t1"),
        sent(make_fix("P1", race_id="R2"), "t5"),
    ]
    told = {topic: json.loads(payload) for topic, payload in receipts(TEMPLATE, fixes, [rejected("P2")])}
    assert told == {
        "tracking/P1/receipt/R1": {
            "participant_id": "P1",
            "race_id": "R1",
            "timestamps": ["t1", "t2", "t1"],
            "rejected": [],
        },
        "tracking/P2/receipt/R1": {
            "participant_id": "P2",
            "race_id": "R1",
            "timestamps": ["t1"],
            "rejected": [{"timestamp": "t9", "code": "bad_coordinate"}],
        },
        "tracking/P1/receipt/R2": {"participant_id": "P1", "race_id": "R2", "timestamps": ["t5"], "rejected": []},
    }


def test_nobody_is_told_what_nobody_could_match_and_no_id_escapes_into_the_topic() -> None:
    rows = [
        rejected(None),
        rejected("P1", timestamp=None),
        rejected("P1", race_id=None),
        rejected("+"),
        rejected("#"),
        rejected("a/b"),
        rejected("\0"),
        rejected("P1", race_id="$SYS/x"),
    ]
    assert receipts(TEMPLATE, [], rows) == []
    ((topic, _),) = receipts(TEMPLATE, [], [rejected("P1")])
    assert topic == "tracking/P1/receipt/R1"


def test_the_filter_that_hears_all_receipts() -> None:
    assert receipt_filter("tracking/{participant_id}/receipt") == "tracking/+/receipt"
    assert receipt_filter("x/{race_id}/p-{participant_id}-r/end") == "x/+/+/end"
    assert receipt_filter("receipts") == "receipts"


def test_the_reader_is_told_where_receipts_are_wanted() -> None:
    posted: list[ReaderMessage] = []
    fix = sent(make_fix("P1"), "t1")
    teller("", posted.append)([fix], [])
    assert posted == []
    teller(TEMPLATE, posted.append)([fix], [])
    assert posted == [Tell(tuple(receipts(TEMPLATE, [fix], [])))]
