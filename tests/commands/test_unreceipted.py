"""What a tracker keeps until its receipt."""

from __future__ import annotations

import json
import math

import pytest

from actors.commands.unreceipted import Kept


def receipt(*timestamps: str, rejected: tuple[str, ...] = (), race: str = "R") -> bytes:
    refused = [{"timestamp": timestamp, "code": "bad_id"} for timestamp in rejected]
    told = {"participant_id": "P", "race_id": race, "timestamps": timestamps, "rejected": refused}
    return json.dumps(told).encode()


def three() -> Kept:
    """Sent at 0, 1 and 2 s, each kept for 10 s."""
    kept = Kept(10.0)
    for second in range(3):
        kept.keep(("P", "R", f"t{second}"), "topic", b"%d" % second, float(second))
    return kept


def test_what_has_no_receipt_in_time_is_sent_again_and_stays_kept() -> None:
    kept = three()
    assert (len(kept), kept.next_due) == (3, 10.0)
    assert kept.take_due(9.9) == []
    assert kept.take_due(11.0) == [("topic", b"0"), ("topic", b"1")]
    assert kept.next_due == 12.0
    assert kept.take_due(20.0) == [("topic", b"2")]
    assert kept.take_due(21.0) == [("topic", b"0"), ("topic", b"1")]
    assert (len(kept), kept.sent_again, kept.next_due) == (3, 5, 30.0)


def test_a_receipt_ends_it_and_a_rejection_too() -> None:
    kept = three()
    kept.forget(receipt("t0", "t0", "t9", race="R"))
    kept.forget(receipt("t1", race="another"))
    assert (len(kept), kept.rejected) == (2, 0)
    kept.forget(receipt(rejected=("t1", "t1")))
    assert (len(kept), kept.rejected) == (1, 1)
    kept.forget(receipt("t2"))
    assert (len(kept), kept.next_due, kept.take_due(1e9)) == (0, math.inf, [])


@pytest.mark.parametrize("rubbish", [b"", b"\xff", b"[]", b'{"participant_id": "P"}', receipt("t0")[:-1]])
def test_what_is_no_receipt_is_ignored(rubbish: bytes) -> None:
    kept = three()
    kept.forget(rubbish)
    assert len(kept) == 3
