"""`replay` against a real mosquitto, as an operator uses it."""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.commands import replay
from actors.commands.recordings import UnreadableRecording
from actors.core.timestamps import parse_ms
from actors.drivers import publisher as driver
from actors.drivers.publisher import PublishFailed
from actors.settings import Settings
from tests.live.mqtt_desk import free_port
from tests.live.mqtt_listener import listening, plain_mosquitto, settings_for

pytestmark = pytest.mark.live


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with plain_mosquitto(tmp_path) as port:
        yield port


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


def test_a_gpx_track_becomes_a_participant(port: int, tmp_path: Path) -> None:
    path = tmp_path / "walk.gpx"
    point = '<trkpt lat="1" lon="2"><time>2025-07-01T08:15:30Z</time></trkpt>'
    path.write_text(f"<gpx version='1.1'><trk><name>Ann</name><trkseg>{point}</trkseg></trk></gpx>")
    with listening(port) as listener:
        assert run(settings_for(port), path) == 0
        ((topic, payload),) = listener.wait_for(1)
    assert topic == "tracking/Ann/position"
    assert json.loads(payload)["race_id"] == "walk"


def test_warns_when_nobody_subscribed(port: int, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings_for(port), recording, "--speed", 0) == 0
    assert "warning: nobody subscribed to the topics of all of them" in capsys.readouterr().err
    with listening(port, "tracking/P2/position"):
        assert run(settings_for(port), recording, "--speed", 0) == 0
    assert "warning: nobody subscribed to the topics of 3 of them" in capsys.readouterr().err


def test_a_broken_line_is_found_before_anything_is_published(port: int, recording: Path) -> None:
    recording.write_text(recording.read_text() + "{broken\n")
    with listening(port, "#") as listener:
        with pytest.raises(UnreadableRecording, match=r"races.jsonl: line 6 is not valid JSON"):
            run(settings_for(port), recording, "--speed", 0)
        recording.write_text(line("A", "P9", 0))
        assert run(settings_for(port), recording, "--speed", 0) == 0
        assert [topic for topic, _ in listener.wait_for(1)] == ["tracking/P9/position"]


def test_ctrl_c_ends_it_with_1(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(line("A", "P1", 0) + "\n" + line("A", "P2", 0).replace("2025-07", "2025-09"))
    with listening(port) as listener:
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            listener.wait_for(1)
            signal.pthread_kill(main, signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        assert run(settings_for(port), path) == 1
        interrupter.join()
    said = capsys.readouterr().err
    assert "this takes 62.0 days at this speed" in said
    assert "replay: 1 messages acknowledged" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.txt"], "must end in .jsonl, .jsonl.gz, .gpx"),
        (["races.jsonl", "--speed", "-1"], "allowed is 0, or a number above it"),
        (["races.jsonl", "--speed", "nan"], "allowed is 0"),
        (["races.jsonl", "--speed", "inf"], "allowed is 0"),
        (["races.jsonl", "--speed", "1e-9"], "allowed is 0"),
        (["races.jsonl", "--speed", "fast"], "allowed is 0"),
        (["races.jsonl", "--race", ""], "must not be empty"),
        ([], "required: FILE"),
    ],
)
def test_wrong_usage_is_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = run(Settings.default(), *words)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_nothing_to_publish_is_1(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Settings.default(), recording, "--race", "C", "--participant", "P1") == 1
    assert "holds no fixes of race C, participant P1: of JSON lines --race and" in capsys.readouterr().err
    (tmp_path / "empty.jsonl").write_text("")
    assert run(Settings.default(), tmp_path / "empty.jsonl") == 1
    assert "empty.jsonl: holds no fixes\n" in capsys.readouterr().err
    (tmp_path / "empty.gpx").write_text("<gpx></gpx>")
    assert run(Settings.default(), tmp_path / "empty.gpx") == 1
    assert "holds no fixes with a time" in capsys.readouterr().err


def test_no_broker_is_a_failure(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "GIVE_UP_S", 0.0)
    with pytest.raises(PublishFailed, match="cannot be reached"):
        run(settings_for(free_port()), recording)
