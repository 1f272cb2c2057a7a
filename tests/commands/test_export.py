"""export, rejections and migrate against a real PostgreSQL, as the command line runs them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import attrs
import gpxpy
import pytest
import trio

from actors.commands import parser
from actors.commands.export_files import whole_file
from actors.core.addresses import PostgresAddress
from actors.core.rejection import Rejection
from actors.history.postgres import migration
from actors.history.postgres.libpq import connect
from actors.history.postgres.writer import PostgresWriter
from supervisor import serve
from tests.kit.making import BASE_MS, make_fix
from tests.kit.stores import PASSWORD

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
FIXES = [make_fix(f"P{n % 3}", n, lat=n / 100) for n in range(2400)]
SCRIPTS = [make_fix(name, race_id="R2") for name in ("Zoë", "zoë", "レース", "CON", "𐍈" * 50, "a.b_c-d@e")]
REJECTIONS = [
    Rejection(bytes([n]) * 16, BASE_MS + n, f"t/{n}", payload, "bad_id" if n % 2 else "bad_json", "why")
    for n, payload in enumerate([*(b'{"race_id":"R%d"}' % n for n in range(9)), b'{"race_id":"R9\x1b[2J"}'])
]
IMPOSSIBLE = ["City Run", "Cafe\u0301 du Nord", "\u00e9tape 1", '"', "\u0000", ""]
REJECTIONS += [
    Rejection(bytes([n]) * 16, BASE_MS - n, f"impossible/{n}", json.dumps({"race_id": race}).encode(), "bad_id", "why")
    for n, race in enumerate(IMPOSSIBLE, 100)
]

REJECTIONS.append(Rejection(bytes([99]) * 16, BASE_MS - 1, "of/レース/é", b"{}", "bad_id", "why"))

Command = Callable[..., int]


@pytest.fixture(scope="module")
def environment(postgres_server: PostgresAddress) -> dict[str, str]:
    """Settings of a database with some history."""

    async def fill() -> None:
        admin = await connect(postgres_server, "test", 10)
        await admin.script("create database commands")
        await admin.script("create database untouched")
        admin.close()
        writer = PostgresWriter(attrs.evolve(postgres_server, database="commands"))
        await writer.store([*FIXES, *SCRIPTS])
        await writer.reject(REJECTIONS)
        await writer.aclose()

    trio.run(fill)
    return {
        "POSTGRES_HOST": postgres_server.host, "POSTGRES_PORT": str(postgres_server.port),
        "POSTGRES_USERNAME": "postgres", "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DATABASE": "commands",
    }  # fmt: skip


@pytest.fixture
def command(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs one command line in this process; keywords are further settings."""
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "settings.ini").write_text("")

    def run(*arguments: str | Path, **settings: str) -> int:
        for key, value in settings.items():
            monkeypatch.setenv(key, value)
        return parser.main(["--settings", str(tmp_path / "settings.ini"), *map(str, arguments)], serve)

    return run


def test_jsonl_to_standard_output(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("export", "R1") == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["participant_id"] for line in lines] == [fix.participant_id for fix in FIXES]


def test_a_file_holds_only_what_was_asked_for(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "out.gpx"
    target.write_text("of yesterday")
    window = ("--from", "2025-07-01T08:15:31Z", "--to", "2025-07-01T10:15:36+02:00")
    assert command("export", "R1", "--format", "gpx", "--output", target, *window) == 0
    tracks = gpxpy.parse(target.read_text()).tracks
    assert [(track.name, len(track.segments[0].points)) for track in tracks] == [("P0", 1), ("P1", 2), ("P2", 2)]
    assert command("export", "R1", "--format", "csv", "--output", target, "--participant", "P2") == 0
    assert len(target.read_text().splitlines()) == 801
    assert sorted(os.listdir(tmp_path)) == ["out.gpx", "settings.ini"]


def test_tracks_of_many_chunks_are_whole(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("export", "R1", "--format", "geojson") == 0
    features = json.loads(capfd.readouterr().out)["features"]
    assert [len(feature["geometry"]["coordinates"]) for feature in features] == [800, 800, 800]


@pytest.mark.parametrize("form", ["jsonl", "csv", "geojson", "gpx"])
def test_a_file_each(command: Command, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "tracks"
    assert command("export", "R1", "--format", form, "--split", folder) == 0
    assert command("export", "R1", "--format", form, "--split", folder) == 0  # what is there is replaced
    assert sorted(os.listdir(folder)) == [f"P{n}.{form}" for n in range(3)]
    for number in range(3):
        whole = tmp_path / "whole"
        assert command("export", "R1", "--format", form, "--participant", f"P{number}", "--output", whole) == 0
        assert (folder / f"P{number}.{form}").read_bytes() == whole.read_bytes()


def test_files_each_with_names_of_any_script(command: Command, tmp_path: Path) -> None:
    assert command("export", "R2", "--split", tmp_path / "tracks") == 0
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "tracks").iterdir()}
    assert {fix["participant_id"] for fix in found.values()} == {fix.participant_id for fix in SCRIPTS}
    assert {"Zoë.jsonl", "レース.jsonl", f"{'𐍈' * 50}.jsonl"} < set(found)
    assert len({name.casefold() for name in found}) == len(SCRIPTS)
    assert command("export", "R9", "--split", tmp_path / "none") == 0
    assert os.listdir(tmp_path / "none") == []


def test_files_each_that_cannot_be_written(command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("export", "R1", "--split", tmp_path / "no" / "where") == 1
    assert "cannot make the folder" in capfd.readouterr().err
    assert command("export", "R1", "--split", tmp_path / "settings.ini") == 1
    assert "settings.ini: File exists" in capfd.readouterr().err
    (tmp_path / "tracks" / "P1.jsonl.part").mkdir(parents=True)
    assert command("export", "R1", "--split", tmp_path / "tracks") == 1
    assert f"cannot write {tmp_path}/tracks/P1.jsonl: Is a directory" in capfd.readouterr().err
    with pytest.raises(SystemExit) as ended:
        command("export", "R1", "--split", tmp_path, "--output", tmp_path / "out")
    assert ended.value.code == 2


def test_one_file_is_open_at_a_time(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = 0
    most = 0

    @contextmanager
    def counted(path: Path) -> Iterator[BinaryIO]:
        nonlocal opened, most
        opened += 1
        most = max(most, opened)
        with whole_file(path) as file:
            yield file
        opened -= 1

    monkeypatch.setattr("actors.commands.export_files.whole_file", counted)
    assert command("export", "R1", "--split", tmp_path / "tracks") == 0
    assert (most, opened) == (1, 0)


def test_a_race_without_fixes_is_empty_and_said(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("export", "R9") == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "no fixes" in captured.err


@pytest.mark.parametrize("bad", [("--from", "yesterday"), ("--format", "kml"), ("--limit", "3")])
def test_bad_usage_is_2(command: Command, bad: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command("export", "R1", *bad)
    assert ended.value.code == 2


def test_what_fails_while_running_is_1_and_leaves_nothing(
    command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("export", "R1", "--output", tmp_path / "no" / "where") == 1
    assert "cannot write" in capfd.readouterr().err
    target = tmp_path / "out"
    target.write_text("of yesterday")
    assert command("export", "R1", "--output", target, POSTGRES_DATABASE="nowhere") == 1
    assert '"nowhere" does not exist' in capfd.readouterr().err
    assert target.read_text() == "of yesterday"
    assert sorted(os.listdir(tmp_path)) == ["out", "settings.ini"]


def test_a_reader_that_leaves_is_no_failure(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "settings.ini").write_text("")
    line: list[str | Path] = [
        sys.executable,
        ROOT / "supervisor.py",
        "--settings",
        tmp_path / "settings.ini",
        "export",
        "R1",
    ]
    with subprocess.Popen(
        line, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_rejections_as_lines_of_json(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("rejections", "--json", "--code", "bad_json", "--limit", "2") == 0
    first, second = map(json.loads, capfd.readouterr().out.splitlines())
    assert first == {
        "id": "08080808-0808-0808-0808-080808080808", "receivedAt": "2025-07-01T08:15:30.008Z", "topic": "t/8",
        "code": "bad_json", "detail": "why", "payload": '{"race_id":"R8"}',
    }  # fmt: skip
    assert second["topic"] == "t/6"
    assert command("rejections", "--json", "--race", "R3") == 0
    assert json.loads(capfd.readouterr().out)["topic"] == "t/3"


def test_rejections_of_races_that_cannot_be_are_found(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    for n, race in enumerate(IMPOSSIBLE, 100):
        for form in ("NFC", "NFD"):
            if "\0" not in race:  # which no argument can hold
                assert command("rejections", "--json", "--race", unicodedata.normalize(form, race)) == 0
                assert [json.loads(line)["topic"] for line in capfd.readouterr().out.splitlines()] == [
                    f"impossible/{n}"
                ]


def test_a_name_is_the_same_however_it_is_composed(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("export", "R2", "--participant", "Zoe\u0308") == 0
    assert json.loads(capfd.readouterr().out)["participant_id"] == "Zoë"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_the_characters(command: Command, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    def written(*arguments: str) -> bytes:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        assert command(*arguments) == 0
        sys.stdout.seek(0)
        return sys.stdout.buffer.read()

    names = {json.loads(line)["participant_id"] for line in written("export", "R2").decode().splitlines()}
    assert names == {fix.participant_id for fix in SCRIPTS}
    listed = [json.loads(line)["topic"] for line in written("rejections", "--json").decode().splitlines()]
    assert listed[10] == "of/レース/é"
    assert b"of/\\u30ec\\u30fc\\u30b9/" in written("rejections")


def test_rejections_as_a_table_that_moves_no_cursor(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("rejections") == 0
    out = capfd.readouterr().out
    topics = [word for word in out.split() if word.startswith(("t/", "impossible/"))]
    assert topics == [*(f"t/{n}" for n in range(9, -1, -1)), *(f"impossible/{n}" for n in range(100, 106))]
    assert "\x1b" not in out
    assert "R9\\x1b[2J" in out
    assert command("rejections", "--race", "none") == 0
    assert "no rejections" in capfd.readouterr().err


@pytest.mark.parametrize("limit", ["0", "-1", "x", "10001", "1_0"])
def test_a_bad_limit_is_2(command: Command, limit: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command("rejections", f"--limit={limit}")
    assert ended.value.code == 2


def test_migrate_says_what_it_would_do_and_does_it_once(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    things = [str(item) for item in migration.parse(migration.SCHEMA.read_text()) if item.kind != "setting"]

    def said(*arguments: str) -> list[str]:
        assert command("migrate", *arguments, POSTGRES_DATABASE="untouched") == 0
        return [line for line in capfd.readouterr().out.splitlines() if "schema" not in line]

    assert said("--dry-run") == [f"would create {thing}" for thing in things]
    assert said("--dry-run") == [f"would create {thing}" for thing in things]
    assert said() == [f"created {thing}" for thing in things]
    assert said() == ["database 'untouched': nothing to change"]
