"""The contract of commands from outside: every command as an operator types it, on a running daemon; exit codes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpxpy
import jwt
import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.commands import run_here
from tests.kit.daemon import SUPERVISOR, Running, until
from tests.kit.expected import e7, fix, now_ms, row, unix_ms, utc
from tests.kit.station import Payload, Station, station
from tests.kit.tokens import SECRET

pytestmark = pytest.mark.live

Site = tuple[Station, Running]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Site]:
    """A daemon for the module."""
    with station(tmp_path_factory.mktemp("cli"), postgres_server) as at, at.daemon() as running:
        yield at, running


# --- commands on a running daemon ------------------------------------------------------------------------------


def test_check_reaches_the_servers(site: Site) -> None:
    at, _ = site
    (done,) = at.here(["check"])
    for subject in ("broker", "redis", "postgres"):
        assert re.search(rf"^ok +{subject}\b", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^warning +postgres\b.*fsync", done.stdout, re.MULTILINE), "the tests' server has fsync off"
    dead = {"MQTT_BROKER_URL": "mqtt://127.0.0.1:1", "REDIS_PORT": "1", "POSTGRES_PORT": "1"}
    (failed,) = at.here(["check"], check=1, **dead)
    for subject in ("broker", "redis", "postgres"):
        assert re.search(rf"^FAILED +{subject}\b", failed.stdout, re.MULTILINE), failed.stdout


def test_status_shows_the_tree_and_is_1_when_none_is_running(site: Site, tmp_path: Path) -> None:
    at, _ = site
    (tmp_path / "settings.ini").write_text("")
    shown = at.here(["status"])[0].stdout
    for word in ("actor", "state", "restarts", "mailbox", "handled", "reader", "persistence", "running"):
        assert word in shown
    (none,) = run_here([["--settings", str(tmp_path / "settings.ini"), "status"]], check=1)
    assert none.stdout == ""
    assert len(none.stderr.splitlines()) == 1


def test_token_is_a_jwt_with_the_races_and_the_time_to_live(site: Site) -> None:
    at, running = site
    wants: list[list[str]] = [["token"], ["token", "--race", "A", "--race", "B"], ["token", "--ttl", "90s"]]
    now = time.time()
    every, some, short = (
        jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"], options={"require": ["exp"]})
        for done in at.here(*wants)
    )
    assert "races" not in every
    assert some["races"] == ["A", "B"]
    assert abs(every["exp"] - now - 8 * 3600) < 30
    assert abs(short["exp"] - now - 90) < 30
    assert running.get("/api/races")[0] == 200


def test_rejections_are_listed_newest_first(site: Site) -> None:
    at, running = site
    bad: list[Payload] = [
        fix("rej-1", status="x"),
        fix("rej-2", latitude=91),
        fix("rej-1", longitude=200),
        b"rubbish \x1b[2J",
        b"\xff",
    ]
    for payload in bad:
        before = running.metrics()["tracking_messages_received_total"]
        at.send(payload, topic="tracking/rej/position")
        running.settled(before + 1)
        time.sleep(0.002)  # received_at is in milliseconds, and decides the order
    everything, race, code, limited, table, none = at.here(
        ["rejections", "--json"],
        ["rejections", "--json", "--race", "rej-1"],
        ["rejections", "--json", "--code", "bad_coordinate"],
        ["rejections", "--json", "--limit", "2"],
        ["rejections"],
        ["rejections", "--json", "--race", "there-is-none"],
    )

    def codes(done: subprocess.CompletedProcess[str]) -> list[str]:
        return [json.loads(line)["code"] for line in done.stdout.splitlines()]

    assert codes(everything)[:5] == ["bad_encoding", "bad_json", "bad_coordinate", "bad_coordinate", "bad_status"]
    assert codes(race) == ["bad_coordinate", "bad_status"]
    assert codes(code)[:2] == ["bad_coordinate", "bad_coordinate"]
    assert set(codes(code)) == {"bad_coordinate"}
    assert codes(limited) == ["bad_encoding", "bad_json"]
    assert "bad_status" in table.stdout
    assert "\x1b" not in table.stdout, "no escapes of strangers on a terminal"
    assert none.stdout == ""


TRACK = [
    fix(
        "ex", who, f"2026-06-01T08:00:{second:02}.{n}5Z", latitude=47 + n / 7, longitude=-8 - second / 13, status=status
    )
    for n, (who, second, status) in enumerate(
        [
            ("Zoë", 1, "moving"),
            ("P2", 2, "stopped"),
            ("Zoë", 3, "moving"),
            ("P2", 4, "disqualified"),
            ("Zoë", 5, "finished"),
            ("single", 6, "moving"),
        ]
    )
]


def rounded(one: dict[str, Any]) -> dict[str, Any]:
    return one | {
        "latitude": e7(one["latitude"]) / 1e7,
        "longitude": e7(one["longitude"]) / 1e7,
        "timestamp": utc(unix_ms(one["timestamp"])),
    }


def test_export_in_every_format_and_back_again(site: Site, tmp_path: Path) -> None:
    at, running = site
    at.send(*reversed(TRACK), fix("other"))
    until(lambda: len(at.rows("ex")) == len(TRACK))
    files = {kind: tmp_path / f"ex.{kind}" for kind in ("jsonl", "csv", "geojson", "gpx")}
    out, *_, one, some, none = at.here(
        ["export", "ex"],
        *(["export", "ex", "--format", kind, "--output", str(file)] for kind, file in files.items()),
        ["export", "ex", "--participant", "P2"],
        ["export", "ex", "--from", "2026-06-01T08:00:02.15Z", "--to", "2026-06-01T10:00:05.45+02:00"],
        ["export", "nobody"],
    )
    expected = [rounded(one) for one in TRACK]
    assert [json.loads(line) for line in out.stdout.splitlines()] == expected, "oldest first, as trackers send them"
    assert [list(json.loads(line)) for line in out.stdout.splitlines()] == [list(TRACK[0])] * len(TRACK)
    assert files["jsonl"].read_text() == out.stdout
    assert [json.loads(line) for line in one.stdout.splitlines()] == [expected[1], expected[3]]
    assert [json.loads(line) for line in some.stdout.splitlines()] == expected[1:4], "from inclusive, to exclusive"
    assert none.stdout == ""

    rows = list(csv.DictReader(io.StringIO(files["csv"].read_bytes().decode(), newline="")))
    assert [row["participant_id"] for row in rows] == [one["participant_id"] for one in TRACK]
    assert [e7(float(row["latitude"])) for row in rows] == [e7(one["latitude"]) for one in TRACK]
    assert [row["timestamp"] for row in rows] == [one["timestamp"] for one in expected]
    assert [row["status"] for row in rows] == [one["status"] for one in TRACK]

    geo = json.loads(files["geojson"].read_text())
    assert geo["type"] == "FeatureCollection"
    lines = {feature["properties"]["participantId"]: feature["geometry"]["coordinates"] for feature in geo["features"]}
    assert lines["Zoë"] == [[one["longitude"], one["latitude"]] for one in expected if one["participant_id"] == "Zoë"]
    assert set(lines) == {"Zoë", "P2", "single"}

    gpx = gpxpy.parse(files["gpx"].read_text())
    assert {track.name: len(track.segments[0].points) for track in gpx.tracks} == {"Zoë": 3, "P2": 2, "single": 1}
    point = next(track for track in gpx.tracks if track.name == "P2").segments[0].points[0]
    assert (e7(point.latitude), e7(point.longitude)) == (e7(TRACK[1]["latitude"]), e7(TRACK[1]["longitude"]))
    assert point.time is not None
    assert utc(int(point.time.timestamp() * 1000 + 0.5)) == expected[1]["timestamp"]

    # Round trip: the same rows, so none is added.
    before = running.metrics()
    at.command("replay", str(files["jsonl"]), "--speed", "0")
    until(
        lambda: (
            running.metrics()["tracking_fixes_duplicate_total"] == before["tracking_fixes_duplicate_total"] + len(TRACK)
        )
    )
    assert at.rows("ex") == sorted(map(row, TRACK))

    # ... and a .gpx of ours is replayed as a race of another name, with its tracks as participants.
    at.command("replay", str(files["gpx"]), "--speed", "0", "--race", "ex-gpx")
    until(lambda: len(at.rows("ex-gpx")) == len(TRACK))
    found = {(who, latitude, longitude, ms) for _, who, _, latitude, longitude, ms, _ in at.rows("ex-gpx")}
    assert found == {(who, latitude, longitude, ms) for _, who, _, latitude, longitude, ms, _ in map(row, TRACK)}


def test_replay_of_a_compressed_recording_with_its_options(site: Site, tmp_path: Path) -> None:
    at, running = site
    fixes = [
        fix(race, f"P{n % 2}", unix_ms("2026-06-01T08:00:00Z") + 100 * n) for n in range(6) for race in ("gz", "hz")
    ]
    path = tmp_path / "two.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write("".join(json.dumps(one) + "\n" for one in fixes))
    at.command("replay", str(path), "--speed", "0", "--race", "gz", "--participant", "P1")
    only = [one for one in fixes if one["race_id"] == "gz" and one["participant_id"] == "P1"]
    until(lambda: len(at.rows("gz")) == len(only))
    assert at.rows("gz") == sorted(map(row, only))
    assert at.rows("hz") == []
    began = time.monotonic()
    at.command("replay", str(path), "--speed", "5")
    assert time.monotonic() - began >= 0.1
    until(lambda: len(at.rows("gz")) + len(at.rows("hz")) == len(fixes))
    assert at.rows("hz") == sorted(row(one) for one in fixes if one["race_id"] == "hz")

    before = now_ms()
    at.command("replay", str(path), "--speed", "0", "--race", "hz", "--now")
    until(lambda: len(at.rows("hz")) == 12)
    shifted = sorted(float(ms) for *_, ms, _ in at.rows("hz"))[6:]
    assert before <= shifted[0] <= now_ms()
    assert [ms - shifted[0] for ms in shifted] == [0, 100, 200, 300, 400, 500]
    assert running.process.poll() is None


def test_replay_warns_when_nobody_subscribed_and_fails_on_what_is_not_there(site: Site, tmp_path: Path) -> None:
    at, _ = site
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(fix("nobody")) + "\n")
    (lonely,) = at.commands([["replay", str(path), "--speed", "0"]], MQTT_TOPICS="elsewhere/+/x")
    assert "nobody" in lonely.stderr
    assert at.rows("nobody") == []
    missing, directory = at.commands(
        [["replay", str(tmp_path / "none.jsonl")], ["replay", str(tmp_path / ".jsonl")]], check=None
    )
    assert missing.returncode == 1
    assert directory.returncode in (1, 2)
    for done in (missing, directory):
        assert "Traceback" not in done.stderr
        assert done.stderr


def test_simulate_publishes_a_race_that_the_daemon_takes(site: Site) -> None:
    at, running = site
    before = running.metrics()
    at.command(
        "simulate", "--participants", "7", "--rate-hz", "5", "--duration-s", "1", "--race", "made-up", "--seed", "3"
    )
    until(lambda: len(at.rows("made-up")) >= 30)
    seen = running.settled(0)
    assert 30 <= len(at.rows("made-up")) <= 40
    assert len(running.live("made-up")) == 7
    assert seen["tracking_fixes_rejected_total"] == before["tracking_fixes_rejected_total"]


def test_commands_fail_with_1_and_a_line_when_a_server_is_away(site: Site) -> None:
    at, _ = site
    for done in at.here(["export", "ex"], ["rejections"], ["migrate"], check=1, POSTGRES_PORT="1"):
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_port_or_a_data_dir_that_is_taken_is_1_and_one_line(site: Site, tmp_path: Path) -> None:
    """The daemon of the module has both."""
    at, running = site
    done = at.command("run", check=1, DATA_DIR=str(tmp_path / "var"), MQTT_CLIENT_ID="another")
    assert str(at.port) in done.stderr
    assert "Traceback" not in done.stderr
    done = at.command("run", check=1)
    assert "another daemon" in done.stderr
    assert running.process.poll() is None


def test_export_into_a_pipe_that_closes_says_nothing(site: Site) -> None:
    at, _ = site
    with subprocess.Popen(
        [sys.executable, SUPERVISOR, "--settings", str(at.path), "export", "ex"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
