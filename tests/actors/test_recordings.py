"""Recordings as they come: lines, gzip, GPX; what is broken is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from actors.commands.publisher import Topics
from actors.commands.recordings import Recorded, Recording, UnreadableRecording, valid_id
from actors.commands.replay import Extent, in_time_order, survey
from actors.core.decode import Rules, decode
from actors.settings import MqttSettings

LINES = [
    '{"participant_id": "P1", "race_id": "A", "latitude": 1, "longitude": 2, "timestamp": "2025-07-01T08:15:30Z"}',
    '{"race_id":"B","participant_id":"P1","latitude":1,"longitude":2,"timestamp":"2025-07-01T08:15:29.5Z","x":1e999}',
    '{"participant_id": "P2", "race_id": "A", "timestamp": "yesterday"}',
    '"anything"',
    "[]",
    '[{"participant_id":"P1","race_id":"A"},{"participant_id":"P2","race_id":"A","timestamp":"2025-07-01T08:15:31Z"}]',
]
BASE_MS = 1_751_357_730_000  # 2025-07-01T08:15:30Z

GPX = """<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">
  <wpt lat="1" lon="1"><time>2025-07-01T08:00:00Z</time></wpt>
  <trk><name> Zoë / Müller </name><trkseg>
    <trkpt lat="53.54635221234" lon="9.8030877"><time>2025-07-01T08:15:30Z</time></trkpt>
    <trkpt lat="53.5463523" lon="9.8030878"></trkpt></trkseg><trkseg>
    <trkpt lat="-53.5463524" lon="-9.8030879"><time>2025-07-01T10:15:31.25+02:00</time></trkpt>
  </trkseg></trk>
  <trk><trkseg><trkpt lat="1.5" lon="2.5"><time>2025-07-01T08:15:32</time></trkpt></trkseg></trk>
  <trk><name>Zoë / Müller</name><trkseg>
    <trkpt lat="3" lon="4"><time>2025-07-01T08:15:33Z</time></trkpt></trkseg></trk>
</gpx>
"""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "race.jsonl"
    path.write_text("\ufeff" + LINES[0] + "\r\n\n  \n" + "\n".join(LINES[1:]), newline="")
    return path


@pytest.fixture
def gpx(tmp_path: Path) -> Path:
    path = tmp_path / "City run (2025).gpx"
    path.write_text(GPX)
    return path


def test_lines_are_published_as_they_stand(lines: Path) -> None:
    found = list(Recording(lines).read())
    assert [one.payload.decode() for one in found] == LINES
    assert [(one.participant_id, one.race_id, one.at_ms) for one in found] == [
        ("P1", "A", BASE_MS),
        ("P1", "B", BASE_MS - 500),
        ("P2", "A", None),
        ("", "", None),
        ("", "", None),
        ("P1", "A", None),
    ]


def test_gzip_holds_the_same(lines: Path, tmp_path: Path) -> None:
    packed = tmp_path / "race.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    assert list(Recording(packed).read()) == list(Recording(lines).read())


def test_a_race_or_a_participant_is_picked_out(lines: Path) -> None:
    assert [one.payload.decode() for one in Recording(lines, race="B").read()] == [LINES[1]]
    assert [one.payload.decode() for one in Recording(lines, race="B", participant="P2").read()] == []
    found = [one.payload for one in Recording(lines, participant="P2").read()]
    assert found[0].decode() == LINES[2]
    assert json.loads(found[1]) == json.loads(LINES[5])[1:]
    assert len(found) == 2


def test_shifting_changes_timestamps_and_nothing_else(lines: Path) -> None:
    shifted = [json.loads(one.payload) for one in Recording(lines).read(shift_ms=3_600_001)]
    assert shifted[0] == json.loads(LINES[0]) | {"timestamp": "2025-07-01T09:15:30.001Z"}
    assert list(shifted[0]) == list(json.loads(LINES[0]))
    assert shifted[2:5] == [json.loads(line) for line in LINES[2:5]]
    assert [item.get("timestamp") for item in shifted[5]] == [None, "2025-07-01T09:15:31.001Z"]


@pytest.mark.parametrize(
    "line",
    [b"{", b"nonsense", b'{"a": NaN}', b'{"a": "\xff"}', rb'{"a": "\ud800"}', b"{} {}", b"[" * 100_000],
    ids=["open", "text", "NaN", "encoding", "surrogate", "two", "deep"],
)
def test_a_line_that_is_not_json_is_named_by_its_number(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES[0].encode() + b"\n\n" + line + b"\n" + LINES[1].encode())
    with pytest.raises(UnreadableRecording, match="line 3 is not valid JSON"):
        list(Recording(path).read())


def test_integers_of_any_length_are_json(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"latitude": %s}' % ("9" * 5000))
    assert [one.payload for one in Recording(path).read()] == [path.read_bytes()]


@pytest.mark.parametrize(
    "content", [b"no gzip at all", gzip.compress(b"{}\n" * 1000)[:-20], b""], ids=["no", "cut", "empty"]
)
def test_a_broken_gzip_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(content)
    if content:
        with pytest.raises(UnreadableRecording, match="cannot be read"):
            list(Recording(path).read())
    else:
        assert list(Recording(path).read()) == []


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for name in ("none.jsonl", "none.jsonl.gz", "none.gpx"):
        with pytest.raises(UnreadableRecording, match=r"cannot be read: No such file or directory$"):
            list(Recording(tmp_path / name).read())


def test_a_track_is_a_participant(gpx: Path) -> None:
    found = list(Recording(gpx).read())
    assert [(one.participant_id, one.at_ms) for one in found] == [
        ("Zoë---Müller", BASE_MS),
        ("Zoë---Müller", BASE_MS + 1250),
        ("P002", BASE_MS + 2000),
        ("Zoë---Müller-2", BASE_MS + 3000),
    ]
    assert {one.race_id for one in found} == {"City-run--2025"}
    assert json.loads(found[1].payload) == {
        "participant_id": "Zoë---Müller",
        "race_id": "City-run--2025",
        "latitude": -53.5463524,
        "longitude": -9.8030879,
        "timestamp": "2025-07-01T08:15:31.250Z",
        "status": "moving",
    }
    for one in found:
        fixes, rejections = decode(b"t", one.payload, BASE_MS + 10_000, Rules(10_000))
        assert (len(fixes), rejections) == (1, [])


def test_gpx_takes_the_names_it_is_given(gpx: Path) -> None:
    found = list(Recording(gpx, race="R9", participant="X").read(shift_ms=1))
    assert [one.participant_id for one in found] == ["X", "X", "X-2", "X-3"]
    assert {one.race_id for one in found} == {"R9"}
    assert found[0].at_ms == BASE_MS + 1


@pytest.mark.parametrize("content", ["", "no xml", "<gpx>", GPX.replace('lat="3"', 'lat="x"')])
def test_what_is_no_gpx_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.gpx"
    path.write_text(content)
    with pytest.raises(UnreadableRecording, match="not valid GPX"):
        list(Recording(path).read())


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("plain", "plain"),
        ("  two words ", "two-words"),
        ("__hidden", "hidden"),
        ("\U0001f3c3", "instead"),
        ("", "instead"),
        ("x" * 60, "x" * 50),
        ("e\u0301tape 1", "étape-1"),
        ("a+b/c#d", "a-b-c-d"),
        ("\u0301a", "a"),
    ],
)
def test_names_become_ids(name: str, made: str) -> None:
    assert valid_id(name, "instead") == made


def test_a_recording_is_measured() -> None:
    def at(ms: int | None) -> Recorded:
        return Recorded("P", "R", ms, b"")

    assert survey([]) == Extent(0, None, None)
    assert survey([at(None)]) == Extent(1, None, None)
    extent = survey([at(5000), at(None), at(2500), at(4000)])
    assert extent == Extent(4, 2500, 5000)
    assert extent.lasts_s == 2.5
    assert Extent(1, None, None).lasts_s == 0.0


def test_one_order_of_time_and_the_untimed_beside_their_neighbours() -> None:
    records = [
        Recorded(name, "R", at_ms, b"")
        for name, at_ms in [("a", None), ("b", 30), ("c", None), ("d", 10), ("e", 30), ("f", None), ("g", 20)]
    ]
    assert [(ms, record.participant_id) for ms, record in in_time_order(records)] == [
        (10, "d"), (20, "g"), (30, "a"), (30, "b"), (30, "c"), (30, "e"), (30, "f"),
    ]  # fmt: skip
    assert in_time_order([records[0], records[2]]) == [(0, records[0]), (0, records[2])]


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
        payload = LINES[0].replace('"A"', '"R1"').encode()
        rules = Rules(10_000, topic_identity=identity, topics=(topic_filter,))
        expected = [] if "+" in topic_filter else ["topic_mismatch"]
        assert [row.code for row in decode(topic.encode(), payload, BASE_MS, rules)[1]] == expected


@pytest.mark.parametrize(
    ("participant_id", "level"),
    [("", "unknown"), ("a/b+c#d$", "a_b_c_d_"), ("\0\n\u200f", "___"), ("Zoë", "Zoë"), ("x" * 500, "x" * 100)],
)
def test_what_a_topic_cannot_hold_is_replaced(participant_id: str, level: str) -> None:
    assert Topics(("t", "+"), by_race=False).topic(participant_id, "R") == f"t/{level}"
