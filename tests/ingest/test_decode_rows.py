"""What a rejection tells: which element, whose, and in words that can be printed and stored."""

from __future__ import annotations

from actors.core.identity import rejection_id
from actors.ingest.decode import decode
from tests.ingest.test_decode import NOW_MS, RULES, TOPIC, encoded
from tests.ingest.test_decode_rejections import rejected

E = encoded()


def test_each_element_is_judged_alone() -> None:
    elements = [E, b"null", encoded(latitude=91), b'{"race_id" : "R1" }', encoded(latitude=5), b"[]", b'"x"']
    payload = b"[ " + b" , ".join(elements) + b"]"
    fixes, rejections = decode(TOPIC, payload, NOW_MS, RULES)
    assert [fix.lat_e7 for fix in fixes] == [-79_456_000, 50_000_000]
    assert [(row.code, row.payload) for row in rejections] == [
        ("bad_type", b"null"),
        ("bad_coordinate", encoded(latitude=91)),
        ("missing_field", b'{"race_id" : "R1" }'),
        ("bad_type", b"[]"),
        ("bad_type", b'"x"'),
    ]
    assert [row.id for row in rejections] == [
        rejection_id(TOPIC, payload, index, row.code) for index, row in zip([1, 2, 3, 5, 6], rejections, strict=True)
    ]
    assert (rejections[2].participant_id, rejections[2].race_id) == (None, "R1")


def test_a_rejection_names_what_could_be_read() -> None:
    row = rejected(encoded(latitude=None))
    assert (row.participant_id, row.race_id, row.sent_timestamp) == ("P001", "R2025-07", "2025-07-01T08:15:30Z")
    row = rejected(encoded(participant_id="x" * 51, race_id="", timestamp="9" * 65))
    assert (row.participant_id, row.race_id, row.sent_timestamp) == (None, None, None)
    row = rejected(encoded(participant_id=1, race_id="a/b", timestamp="9" * 64))
    assert (row.participant_id, row.race_id, row.sent_timestamp) == (None, "a/b", "9" * 64)


def test_a_long_value_is_shortened_and_made_printable() -> None:
    row = rejected(encoded(participant_id="a\u202e\0" + "x" * 5000))
    assert "a\\u202e\\x00xxx" in row.detail
    assert "x..." in row.detail
    assert "'\\x00" in rejected(encoded(participant_id="\0" * 80)).detail


def test_a_topic_that_is_no_text_is_kept_readable() -> None:
    assert rejected(b"x", b"tracking/\xff\0/position").topic == "tracking/\\xff\\x00/position"


def test_every_depth_around_the_limit_is_clean() -> None:
    for depth in (*range(500, 840, 20), *range(840, 1010)):
        for payload in (
            E.replace(b"{", b'{"x":' + b"[" * depth + b"]" * depth + b",", 1),
            encoded(status=5).replace(b"{", b'{"x":' + b"[" * depth + b"]" * depth + b",", 1),
            b"[" * depth + b"]" * depth,
            b"[" + b'{"x":' * depth + b"1" + b"}" * depth + b"]",
        ):
            fixes, rejections = decode(TOPIC, payload, NOW_MS, RULES)
            assert len(fixes) + len(rejections) == 1
