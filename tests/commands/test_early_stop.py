"""How commands end that cannot be done: one line, and 1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import pytest

from actors.commands import parser
from supervisor import serve
from tests.kit.commands import run_commands, run_here
from tests.kit.daemon import ROOT, SUPERVISOR

pytestmark = pytest.mark.live

WITHIN_S = 60.0


@contextmanager
def started(
    folder: Path, *args: str, stdout: int = subprocess.PIPE, postgres_port: int = 1, paths: str = ""
) -> Iterator[subprocess.Popen[str]]:
    environment = {
        "DATA_DIR": str(folder),
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": str(postgres_port),
        "PYTHONPATH": paths,
    }
    with subprocess.Popen(
        [sys.executable, SUPERVISOR, *args],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        # In the background of a shell it would be ignored, and so it would be by whoever is started.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("args", [("migrate",), ("rejections",), ("export", "R1"), ("check",)])
def test_ctrl_c_while_a_server_does_not_answer(tmp_path: Path, args: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(WITHIN_S)
        with started(tmp_path, *args, postgres_port=silent.getsockname()[1]) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, told) == (1, "interrupted\n")


def test_a_full_disk_under_the_output(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full, started(tmp_path, "token", stdout=full.fileno()) as process:
        _, told = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, told) == (1, "cannot write: No space left on device\n")


def test_nobody_reads_the_output(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with started(tmp_path, "token", stdout=writing) as process:
        os.close(writing)
        _, told = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, told) == (1, "cannot write: Broken pipe\n")


def test_no_output_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`>&-` of a shell."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "stdout", None)
    assert parser.main(["token"], serve) == 0
    sys.stdout.close()


def test_an_id_that_cannot_be() -> None:
    for what, args in (
        ("race", ("export", "City Run")),
        ("participant", ("export", "R1", "--participant", "City Run")),
        ("race", ("token", "--race", "City Run")),
        ("race", ("simulate", "--race", "City Run")),
        ("race", ("replay", "x.gpx", "--race", "City Run")),
        ("participant", ("replay", "x.jsonl", "--participant", "City Run")),
    ):
        (done,) = run_here([args], check=2)
        assert f"'City Run' is not a {what} id: 1 to 50 letters" in done.stderr


# The first import of supervisor.py, some on the way, and the last one.
MOMENTS = ("math", "attrs", "trio", "actors.http.api", "actors.commands.token")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    ("args", "number", "end"),
    [
        ((), signal.SIGTERM, (0, "stopped while starting\n")),
        (("--settings", "run.ini", "demo"), signal.SIGINT, (0, "stopped while starting\n")),
        (("export", "R1"), signal.SIGINT, (1, "interrupted\n")),
    ],
)
def test_a_signal_while_it_starts(
    tmp_path: Path, args: tuple[str, ...], number: signal.Signals, end: tuple[int, str], moment: str
) -> None:
    """Sent from inside, at the import of a module: no clock can hit that moment."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {moment!r} and 'actors.commands.early_stop' in sys.modules:\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    with started(tmp_path, *args, paths=str(tmp_path)) as process:
        _, told = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, told) == end


def test_a_locale_without_the_characters(tmp_path: Path) -> None:
    """Arguments and names of files are bytes there: UTF-8, as the settings are."""
    settings = tmp_path / "é日" / "settings.ini"
    settings.parent.mkdir()
    settings.write_text("[app]\ndata_dir = dü\n", "utf-8")
    commands = [["--settings", str(settings), "token", "--race", "Cafe\u0301"]]
    (done,) = run_commands(commands, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert jwt.decode(done.stdout.strip(), options={"verify_signature": False})["races"] == ["Café"]
    assert (settings.parent / "dü" / "auth_secret").exists()
