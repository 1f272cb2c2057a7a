"""Recordings as they come: lines, gzip, GPX; what is left out is counted, and by its reason."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from actors.commands.replay import most_ahead_ms, survey
from actors.core.timestamps import DAY_MS, HOUR_MS, LATEST_MS
from actors.ingest.decode import decode
from actors.ingest.validate import Rules
from actors.recordings.lines import _lines
from actors.recordings.points import PointAccount, Recorded, UnreadableRecording, WrongUse
from actors.recordings.recording import Recording

LINES = [
    '{"participant_id": "P1", "race_id": "A", "latitude": 1, "longitude": 2, "timestamp": "2025-07-01T08:15:30Z"}',
    '{"race_id":"B","participant_id":"P1","latitude":1,"longitude":2,"timestamp":"2025-07-01T08:15:29.5Z","x":1e999}',
    '[{"participant_id":"P1","race_id":"A","latitude":3,"longitude":2,"timestamp":"2025-07-01T08:15:31Z","n":[1.50]},'
    ' {"participant_id":"Zoe\u0308","race_id":"A","latitude":3,"longitude":2,"timestamp":"2025-07-01T08:15:32Z"}]',
]
BASE_MS = 1_751_357_730_000  # 2025-07-01T08:15:30Z

GPX = """<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">
  <wpt lat="1" lon="1"><time>2025-07-01T08:00:00Z</time></wpt>
  <trk><name>Morning Run</name><trkseg>
    <trkpt lat="53.54635221234" lon="9.8030877"><time>2025-07-01T08:15:30Z</time></trkpt>
    <trkpt lat="53.5463523" lon="9.8030878"></trkpt></trkseg><trkseg>
    <trkpt lat="-53.5463524" lon="-9.8030879"><time>2025-07-01T10:15:31.25+02:00</time></trkpt>
  </trkseg></trk>
  <trk><trkseg><trkpt lat="1.5" lon="2.5"><time>2025-07-01T10:15:32</time></trkpt></trkseg></trk>
</gpx>
"""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "race.jsonl"
    path.write_text("\ufeff" + LINES[0] + "\r\n\n  \n[]\n" + "\n".join(LINES[1:]), newline="")
    return path


@pytest.fixture
def gpx(tmp_path: Path) -> Path:
    path = tmp_path / "Zoe\u0308.GPX"
    path.write_text(GPX)
    return path


def read(recording: Recording, shift_ms: int = 0, latest_ms: int = LATEST_MS) -> tuple[list[Recorded], str]:
    """What can be published, and the summary."""
    tally = PointAccount()
    return list(recording.read(tally, shift_ms, latest_ms)), tally.summary


def test_lines_are_published_as_they_stand(lines: Path) -> None:
    found, summary = read(Recording(lines))
    assert [one.payload.decode() for one in found] == LINES
    assert [(one.participant_id, one.race_id, one.at_ms) for one in found] == [
        ("P1", "A", BASE_MS),
        ("P1", "B", BASE_MS - 500),
        ("P1", "A", BASE_MS + 1000),
    ]
    assert summary == "read 4 points, left out 0"


@pytest.mark.parametrize("name", ["race.jsonl.gz", "race.JSONL", "race.txt", "race.gpx", "race"])
def test_the_content_decides_not_the_name(lines: Path, gpx: Path, name: str, tmp_path: Path) -> None:
    path = tmp_path / "named" / name
    path.parent.mkdir()
    for source, race in ((lines, None), (gpx, "R")):
        expected = read(Recording(source, race, "P1"))
        assert len(expected[0]) > 1
        for content in (source.read_bytes(), gzip.compress(source.read_bytes())):
            path.write_bytes(content)
            assert read(Recording(path, race, "P1")) == expected


def test_a_race_or_a_participant_is_picked_out(lines: Path) -> None:
    found, summary = read(Recording(lines, race="B"))
    assert ([one.payload.decode() for one in found], summary) == ([LINES[1]], "read 1 points, left out 0")
    assert read(Recording(lines, race="B", participant="P2")) == ([], "read 0 points, left out 0")
    found, summary = read(Recording(lines, participant="Zoë"))
    assert ([json.loads(one.payload) for one in found]) == [json.loads(LINES[2])[1:]]
    assert (found[0].participant_id, found[0].at_ms, summary) == ("Zoë", BASE_MS + 2000, "read 1 points, left out 0")


def test_shifting_changes_timestamps_and_nothing_else(lines: Path) -> None:
    found, _ = read(Recording(lines), shift_ms=3_600_001)
    shifted = [json.loads(one.payload) for one in found]
    assert shifted[0] == json.loads(LINES[0]) | {"timestamp": "2025-07-01T09:15:30.001Z"}
    assert list(shifted[0]) == list(json.loads(LINES[0]))
    assert b'"x":1e999' in found[1].payload
    assert b'"n":[1.50]' in found[2].payload
    assert [item["timestamp"] for item in shifted[2]] == ["2025-07-01T09:15:31.001Z", "2025-07-01T09:15:32.001Z"]
    assert [one.at_ms - BASE_MS for one in found] == [3_600_001, 3_599_501, 3_601_001]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "bad_json"),
        (b"nonsense", "bad_json"),
        (b'{"a": NaN}', "bad_json"),
        (b'{"a": "\xff"}', "bad_encoding"),
        (rb'{"a": "\ud800"}', "bad_json"),
        (b"{} {}", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b"{}", "missing_field"),
        (b'"anything"', "bad_type"),
        (b"[[]]", "bad_type"),
        (b'{"latitude": %b}' % (b"9" * 5000), "missing_field"),
        (LINES[0].replace('"A"', '"City Run"').encode(), "bad_id"),
        (LINES[0].replace("1,", "91,").encode(), "bad_coordinate"),
        (LINES[0].replace("30Z", "30").encode(), "bad_timestamp"),
        (LINES[0].replace("2025", "2425").encode(), "in_the_future"),
        (b"[" + b",".join([LINES[0].encode()] * 1001) + b"]", "too_large"),
        (b'{"a": "%b"}' % (b"x" * 262_144), "too_large"),
        (b'{"a": "%b"}' % (b"x" * 1_000_000), "too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:12].decode("latin-1"),
)
def test_a_line_that_breaks_a_rule_is_left_out(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES[0].encode() + b"\n\n" + line + b"\n" + LINES[1].encode())
    for shift_ms in (0, 1):
        found, summary = read(Recording(path), shift_ms, latest_ms=BASE_MS + DAY_MS)
        assert len(found) == 2
        assert summary == f"read 3 points, left out 1: {reason} 1 (line 3)"


def test_a_part_that_breaks_a_rule_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(LINES[2].replace("Zoe\u0308", "a b") + "\n" + LINES[2].replace('"A"', '"c d"'))
    found, summary = read(Recording(path))
    assert [json.loads(one.payload) for one in found] == [json.loads(LINES[2])[:1]]
    assert summary == "read 4 points, left out 3: bad_id 3 (line 1)"
    # Of another race is not wanted, broken or not; what does not say of which it is may be.
    path.write_text(path.read_text() + "\n{}")
    found, summary = read(Recording(path, race="A"))
    assert (len(found), summary) == (1, "read 3 points, left out 2: bad_id 1 (line 1), missing_field 1 (line 3)")


def test_a_line_as_long_as_a_message_may_be(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(LINES[0])
    for race in (None, "A"):
        assert len(read(Recording(path, race, max_payload_bytes=len(LINES[0])))[0]) == 1
        assert read(Recording(path, race, max_payload_bytes=len(LINES[0]) - 1))[0] == []


def test_of_an_endless_line_no_more_is_kept_than_tells_that_it_is_too_long() -> None:
    assert max(map(len, _lines([b"x" * 10] * 1000, 20))) <= 31


def test_lines_are_judged_by_the_time_that_they_are_moved_to(lines: Path) -> None:
    for shift_ms, reason in ((DAY_MS, "in_the_future 4 (line 1)"), (-30 * 366 * DAY_MS, "bad_timestamp 4 (line 1)")):
        found, summary = read(Recording(lines), shift_ms, latest_ms=BASE_MS + HOUR_MS)
        assert (found, summary) == ([], f"read 4 points, left out 4: {reason}")
    assert len(read(Recording(lines), -HOUR_MS, latest_ms=BASE_MS - HOUR_MS + 1000)[0]) == 3


def test_a_gzip_that_is_cut_gives_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    for name, content in (("x.jsonl.gz", "\n".join([LINES[0]] * 5000)), ("x.gpx.gz", GPX + " " * 10_000)):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content.encode(), 0)[:-5000])
        tally = PointAccount()
        found = list(Recording(path, participant="P1", race=None if "json" in name else "R").read(tally))
        assert len(found) == (2 if name == "x.gpx.gz" else len(found))
        assert len(found) > 0
        assert tally.cut == "its gzip stream ends before its end"


def test_a_broken_gzip_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    packed = bytearray(gzip.compress(b"{}\n" * 1000))
    packed[-6] ^= 1
    for content in (b"\x1f\x8bno gzip at all", bytes(packed)):
        path.write_bytes(content)
        with pytest.raises(UnreadableRecording, match="cannot be read"):
            read(Recording(path))


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    for name in ("none.jsonl", "none.jsonl.gz", "none.gpx"):
        with pytest.raises(UnreadableRecording, match=r"cannot be read: No such file or directory$"):
            read(Recording(tmp_path / name))
    with pytest.raises(WrongUse, match="no such file, and none of that name would be a recording"):
        read(Recording(tmp_path / "none"))
    with pytest.raises(UnreadableRecording, match="Is a directory"):
        read(Recording(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableRecording, match="is a pipe, and a recording is read twice"):
        read(Recording(tmp_path / "pipe"))


def test_nothing_is_no_recording(tmp_path: Path) -> None:
    for name in ("x.jsonl", "x.jsonl.gz"):
        (tmp_path / name).write_bytes(b"")
        assert read(Recording(tmp_path / name)) == ([], "read 0 points, left out 0")
    (tmp_path / "x.gpx").write_bytes(b"no xml")
    with pytest.raises(UnreadableRecording, match=r"x.gpx: not valid GPX: line 1: syntax error"):
        read(Recording(tmp_path / "x.gpx"))
    (tmp_path / "x.jsonl").write_bytes(b"no json")
    assert read(Recording(tmp_path / "x.jsonl")) == ([], "read 1 points, left out 1: bad_json 1 (line 1)")
    (tmp_path / "x.fit").write_bytes(b"\x0e\x20.FIT")
    with pytest.raises(WrongUse, match="its content is none that is known: GPX, JSON lines"):
        read(Recording(tmp_path / "x.fit"))


def test_a_file_of_tracks_is_one_participant_named_as_the_file(gpx: Path) -> None:
    found, summary = read(Recording(gpx))
    assert [json.loads(one.payload) for one in found] == [
        {
            "participant_id": "Zoë",
            "race_id": "Zoë",
            "latitude": latitude,
            "longitude": longitude,
            "timestamp": timestamp,
            "status": "moving",
        }
        for latitude, longitude, timestamp in (
            (53.5463522, 9.8030877, "2025-07-01T08:15:30.000Z"),
            (-53.5463524, -9.8030879, "2025-07-01T08:15:31.250Z"),
        )
    ]
    assert [(one.participant_id, one.race_id, one.at_ms - BASE_MS) for one in found] == [
        ("Zoë", "Zoë", 0),
        ("Zoë", "Zoë", 1250),
    ]
    assert summary == "read 4 points, left out 2: no time 1 (line 6), no time zone 1 (line 9)"
    for one in found:
        assert decode(b"t", one.payload, BASE_MS + 10_000, Rules(10_000))[1] == []


def test_a_file_of_tracks_is_what_it_is_given(gpx: Path) -> None:
    found, summary = read(Recording(gpx, "R9", "X", ZoneInfo("Europe/Berlin")), shift_ms=1)
    assert [(one.participant_id, one.race_id, one.at_ms - BASE_MS) for one in found] == [
        ("X", "R9", 1),
        ("X", "R9", 1251),
        ("X", "R9", 2001),
    ]
    assert summary == "read 4 points, left out 1: no time 1 (line 6)"


def test_tracks_of_an_export_are_participants(tmp_path: Path) -> None:
    path = tmp_path / "not an id.gpx"
    point = '<trkpt lat="1" lon="2"><time>2025-07-01T08:15:30Z</time></trkpt>'
    tracks = [f"<trk><name>{name}</name><trkseg>{point}</trkseg></trk>" for name in ("Zoe\u0308", "P2", "a b")]
    path.write_text(f"<gpx creator='race-tracking'>{''.join(tracks)}</gpx>")
    found, summary = read(Recording(path, race="R"))
    assert [one.participant_id for one in found] == ["Zoë", "P2"]
    assert summary == "read 3 points, left out 1: bad_id 1 (line 1)"
    found, summary = read(Recording(path, "R", "Zoë"))
    assert ([one.participant_id for one in found], summary) == (["Zoë"], "read 1 points, left out 0")
    with pytest.raises(WrongUse, match=r"'not an id', the file's name, is not a race id: 1 to 50 .*: give --race$"):
        read(Recording(path))


@pytest.mark.parametrize(
    ("name", "race", "participant", "lacking"),
    [
        ("City run (2025).gpx", None, None, "participant or race id: 1 to 50 .*: give --participant and --race$"),
        ("City run (2025).GPX.gz", "R", None, "participant id: .*: give --participant$"),
        ("City run (2025).gpx", None, "P", "race id: .*: give --race$"),
        (os.fsdecode(b"\xff.gpx"), "R", None, "participant id"),
    ],
)
def test_a_name_that_is_no_id_names_nobody(
    tmp_path: Path, name: str, race: str | None, participant: str | None, lacking: str
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(GPX.encode()) if name.endswith("gz") else GPX.encode())
    named = re.escape(f"'{path.name.split('.')[0]}', the file's name, is not a ")
    with pytest.raises(WrongUse, match=named + lacking):
        read(Recording(path, race, participant))


def test_a_recording_is_measured(lines: Path, tmp_path: Path) -> None:
    extent = survey(Recording(lines))
    assert (extent.messages, extent.first_ms, extent.lasts_ms) == (3, BASE_MS - 500, 1500)
    assert survey(Recording(lines, race="C")).messages == survey(Recording(lines, race="C")).lasts_ms == 0


@pytest.mark.parametrize(
    ("speed", "ahead_ms"), [(0, DAY_MS), (0.5, LATEST_MS), (1, LATEST_MS), (2, 2 * DAY_MS), (25, DAY_MS + HOUR_MS)]
)
def test_how_long_a_recording_may_be_that_is_moved_to_now(speed: float, ahead_ms: int) -> None:
    assert most_ahead_ms(speed) == ahead_ms
