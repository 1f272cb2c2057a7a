"""`replay` against a real mosquitto, as an operator uses it."""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.commands import replay
from actors.core.timestamps import parse_ms
from actors.mqtt import publisher as driver
from actors.mqtt.publisher import PublishFailed
from actors.recordings.points import UnreadableRecording
from actors.settings.load import Settings
from tests.kit.servers import free_port, start_mosquitto
from tests.mqtt.mqtt_listener import listening, settings_for

pytestmark = pytest.mark.live


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with start_mosquitto(tmp_path) as broker:
        yield broker.port


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two races, five fixes, 0.4 s from first to last."""
    path = tmp_path / "races.jsonl"
    lines = [line("A", "P1", 0), line("A", "P1", 400), line("B", "P2", 100), line("B", "P3", 200), line("B", "P2", 300)]
    path.write_text("\n".join(lines) + "\n")
    return path


def line(race_id: str, participant_id: str, after_ms: int) -> str:
    fix = {
        "participant_id": participant_id,
        "race_id": race_id,
        "latitude": 1.5,
        "longitude": 2.5,
        "timestamp": f"2025-07-01T08:15:30.{after_ms:03d}Z",
    }
    return json.dumps(fix)


def run(settings: Settings, *words: object) -> int:
    parser = argparse.ArgumentParser()
    replay.add(parser.add_subparsers())
    args = parser.parse_args(["replay", *map(str, words)])
    code: int = args.run(args, settings)
    return code


def stamps(messages: list[tuple[str, bytes]]) -> list[str]:
    return [json.loads(payload)["timestamp"] for _, payload in messages]


def test_as_fast_as_acknowledged_in_the_order_of_the_file(
    port: int, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(port) as listener:
        assert run(settings_for(port), recording, "--speed", 0) == 0
        messages = listener.wait_for(5)
    lines = recording.read_text().splitlines()
    assert [payload.decode() for _, payload in messages] == lines
    assert [topic for topic, _ in messages] == [f"tracking/P{i}/position" for i in (1, 1, 2, 3, 2)]
    said = capsys.readouterr()
    assert said.out == ""
    assert "replay: 5 messages acknowledged" in said.err
    assert "nobody" not in said.err


def test_a_bar_on_a_terminal(
    port: int, recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take what it writes to for a terminal
    monkeypatch.setenv("TERM", "xterm")
    assert run(settings_for(port), recording) == 0
    said = capsys.readouterr().err
    assert "/5" in said
    assert "\x1b[" in said


def test_as_recorded_in_one_order_of_time(port: int, recording: Path) -> None:
    with listening(port) as listener:
        started = time.monotonic()
        assert run(settings_for(port), recording) == 0
        lasted_s = time.monotonic() - started
        assert stamps(listener.wait_for(5)) == [f"2025-07-01T08:15:30.{ms:03d}Z" for ms in (0, 100, 200, 300, 400)]
    assert lasted_s >= 0.4


def test_faster_than_recorded(port: int, tmp_path: Path) -> None:
    path = tmp_path / "slow.jsonl"
    path.write_text(line("A", "P1", 0) + "\n" + line("A", "P1", 0).replace("08:15:30", "09:15:30"))
    started = time.monotonic()
    assert run(settings_for(port), path, "--speed", 3600 * 4) == 0
    assert 0.25 <= time.monotonic() - started < 60


def test_shifted_to_now_and_filtered(port: int, recording: Path) -> None:
    before_ms = time.time_ns() // 1_000_000
    with listening(port) as listener:
        assert run(settings_for(port), recording, "--speed", 0, "--now", "--race", "B") == 0
        messages = listener.wait_for(3)
    fixes = [json.loads(payload) for _, payload in messages]
    assert [(fix["race_id"], fix["participant_id"]) for fix in fixes] == [("B", "P2"), ("B", "P3"), ("B", "P2")]
    first_ms, *others_ms = [parse_ms(stamp) or 0 for stamp in stamps(messages)]
    assert before_ms <= first_ms <= time.time_ns() // 1_000_000
    assert others_ms == [first_ms + 100, first_ms + 200]


GPX = """          <?xml version="1.0" encoding="ISO-8859-1"?>
<gpx version="1.1"><trk><name>Caf\xe9</name><trkseg>
<trkpt lat="1" lon="2"><time>
  2025-07-01T08:15:30Z </time></trkpt>
<trkpt lat="undefined" lon="2"><time>2025-07-01T08:15:31Z</time><sat>7.0</sat></trkpt>
<trkpt lat="90" lon="-80"><time>2025-07-01T08:15:31Z</time></trkpt>
<trkpt lat="1" lon="2"><time>2025-07-01T08:15:30Z</time></trkpt>
</trkseg></trk><trk><trkseg>
<trkpt lat="3" lon="2"><time>2025-07-01T10:15:31</time></trkpt>
<trkpt lat="3" lon="4"><time>2025-07-01T08:15:30.100Z</time></trkpt>
<trkpt lat="3" lon="4"><ti"""


def test_points_of_a_device_are_judged_one_by_one(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "walk.GPX.gz"
    path.write_bytes(gzip.compress(GPX.encode("latin-1")))
    with listening(port) as listener:
        assert run(settings_for(port), path, "--race", "R1") == 0
        messages = listener.wait_for(2)
    assert [topic for topic, _ in messages] == ["tracking/walk/position"] * 2
    assert [json.loads(payload)["race_id"] for _, payload in messages] == ["R1", "R1"]
    assert stamps(messages) == ["2025-07-01T08:15:30.000Z", "2025-07-01T08:15:30.100Z"]
    summary, cut, zone, *_ = capsys.readouterr().err.splitlines()
    assert summary == (
        f"replay: {path}: read 6 points, left out 4: bad_coordinate 1 (line 5), pause marker 1 (line 6), "
        "time seen before 1 (line 7), no time zone 1 (line 9)"
    )
    assert cut == f"replay: {path}: warning: it ends in line 11, before its end: what is whole of it is taken"
    assert "--time-zone" in zone


def test_a_zone_and_a_shift(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "walk.gpx"
    times = ("2025-01-01T01:00:00", "2025-01-01T00:00:01Z")
    points = "".join(f'<trkpt lat="1" lon="2"><time>{time}</time></trkpt>' for time in times)
    path.write_text(f"<gpx>{points}</gpx>")
    for shift, clock in (("-08:00", "16:00"), ("+00:30", "00:30"), ("-3600", "23:00")):
        with listening(port) as listener:
            words = [path, "--time-zone", "Europe/Berlin", "--speed", 0, "--shift", shift]
            assert run(settings_for(port), *words) == 0
            day = 1 if shift[0] == "+" else 31
            assert [stamp[8:16] for stamp in stamps(listener.wait_for(2))] == [f"{day:02d}T{clock}"] * 2
    assert "warning: its times begin with a year, to the second" in capsys.readouterr().err


def test_what_would_be_of_the_future_is_left_out(
    port: int, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write_text(line("A", "P1", 0) + "\n" + line("A", "P2", 0).replace("01T08", "02T09"))
    with listening(port) as listener:
        assert run(settings_for(port), recording, "--speed", 0, "--now") == 0
        assert [topic for topic, _ in listener.wait_for(1)] == ["tracking/P1/position"]
    assert "read 2 points, left out 1: in_the_future 1 (line 2)" in capsys.readouterr().err


def test_warns_when_nobody_subscribed(port: int, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings_for(port), recording, "--speed", 0) == 0
    assert "warning: nobody subscribed to the topics of all of them" in capsys.readouterr().err
    with listening(port, "tracking/P2/position"):
        assert run(settings_for(port), recording, "--speed", 0) == 0
    assert "warning: nobody subscribed to the topics of 3 of them" in capsys.readouterr().err


def test_a_line_that_breaks_a_rule_is_not_published(
    port: int, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write_text("{broken\n" + line("City Run", "P1", 0) + "\n" + line("A", "P9", 0) + "\n")
    with listening(port) as listener:
        assert run(settings_for(port), recording, "--speed", 0) == 0
        assert [topic for topic, _ in listener.wait_for(1)] == ["tracking/P9/position"]
    said = capsys.readouterr().err
    assert "read 3 points, left out 2: bad_json 1 (line 1), bad_id 1 (line 2)\n" in said
    assert "replay: 1 messages acknowledged" in said


def test_ctrl_c_ends_it_with_1(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(line("A", "P1", 0) + "\n" + line("A", "P2", 0).replace("2025-07", "2025-09"))
    with listening(port) as listener, listener.interrupting(1):
        assert run(settings_for(port), path) == 1
    said = capsys.readouterr().err
    assert "this takes 62.0 days at this speed" in said
    assert "replay: 1 messages acknowledged" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["races.jsonl", "--speed", "-1"], "allowed is 0, or a number above it"),
        (["races.jsonl", "--speed", "nan"], "allowed is 0"),
        (["races.jsonl", "--speed", "inf"], "allowed is 0"),
        (["races.jsonl", "--speed", "1e-9"], "allowed is 0"),
        (["races.jsonl", "--speed", "fast"], "allowed is 0"),
        (["races.jsonl", "--race", ""], "'' is not a race id: 1 to 50 letters"),
        (["races.jsonl", "--race", "City Run"], "'City Run' is not a race id: 1 to 50 letters"),
        (["races.gpx", "--participant", "+"], "'+' is not a participant id: 1 to 50 letters"),
        (["races.gpx", "--time-zone", "Mars/Phobos"], "'Mars/Phobos' is not a time zone such as Europe/Berlin"),
        (["races.gpx", "--shift", "tomorrow"], "'tomorrow': allowed are seconds, or hours and minutes as -08:00"),
        ([], "required: FILE"),
    ],
)
def test_wrong_usage_is_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = run(Settings(), *words)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_file_that_names_nobody_or_is_of_no_kind_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "Morning Run.gpx"
    path.write_bytes(GPX.encode("latin-1"))
    assert run(Settings(), path) == 2
    said = capsys.readouterr().err
    assert said.startswith("replay: 'Morning Run', the file's name, is not a participant or race id: 1 to 50 letters")
    assert said.endswith("give --participant and --race\n")
    path.write_bytes(b"\x0e\x20.FIT")
    path = path.rename(tmp_path / "run.fit")
    assert run(Settings(), path) == 2
    assert "its content is none that is known" in capsys.readouterr().err


def test_nothing_to_publish_is_1(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Settings(), recording, "--race", "C", "--participant", "P1") == 1
    assert "holds no fixes of race C, participant P1: of JSON lines --race and" in capsys.readouterr().err
    for name, content, said in [
        ("empty.jsonl", "", "holds no fixes\n"),
        ("empty.gpx", "<gpx></gpx>", "holds no fixes\n"),
        (
            "course.gpx",
            "<gpx><trkpt lat='1' lon='2'/><rtept/></gpx>",
            "a planned course, 2 points without time: cannot",
        ),
        ("bad.gpx", "<gpx><trkpt lat='1' lon='2'><time>x</time></trkpt></gpx>", "nothing of it can be published"),
    ]:
        (tmp_path / name).write_text(content)
        assert run(Settings(), tmp_path / name) == 1
        assert f"{name}: {said}" in capsys.readouterr().err
    (tmp_path / "broken.gpx").write_text(f"<gpx>\n{'<trkpt/>' * 3}\n</trk></gpx>")
    with pytest.raises(UnreadableRecording, match=r"broken.gpx: not valid GPX: line 3: mismatched tag"):
        run(Settings(), tmp_path / "broken.gpx")


def test_no_broker_is_a_failure(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "GIVE_UP_S", 0.0)
    with pytest.raises(PublishFailed, match="cannot be reached"):
        run(settings_for(free_port()), recording)
