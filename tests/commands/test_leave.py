"""`leave`: what a daemon's answer is in words; whom it asks is in tests/faults/test_nodes_that_share.py."""

from __future__ import annotations

import argparse
import json
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from actors.commands import leave
from actors.commands.run import Serve
from actors.data_dir import open_data_dir, socket_path
from actors.settings.load import Settings

GONE = "left the broker: 7 messages were still taken, and there is no session any more\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    plain = Settings()
    return attrs.evolve(plain, app=attrs.evolve(plain.app, data_dir=tmp_path))


def came(**changes: Any) -> bytes:
    return json.dumps({"left": True, "drained": 7, "rows_in_spool": 0, "why_not": "", **changes}).encode()


def never(settings: Settings, beside: Callable[[], Awaitable[None]] | None = None) -> int:
    raise AssertionError("a daemon runs")


def run(settings: Settings, serve: Serve = never) -> int:
    return leave.run(argparse.Namespace(serve=serve), settings)


@pytest.mark.parametrize(
    ("answer", "code", "out", "err"),
    [
        (came(), 0, GONE, ""),
        (
            came(rows_in_spool=3),
            1,
            GONE,
            "leave: 3 rows stay in {}: PostgreSQL did not take them. Run it again when it",
        ),
        (
            came(left=False, why_not="no"),
            1,
            "",
            "leave: still at the broker: no; 7 messages were taken. Run it again\n",
        ),
        (b"", 1, "", "leave: stopped before it was done: run it again\n"),
    ],
)
def test_the_answer_of_a_daemon_that_runs(
    settings: Settings, capsys: pytest.CaptureFixture[str], answer: bytes, code: int, out: str, err: str
) -> None:
    heard = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(socket_path(settings.app.data_dir, "control.sock")))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(100))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert run(settings) == code
        thread.join()
    said = capsys.readouterr()
    assert heard == [b"leave\n"]
    assert said.out == out
    assert said.err.startswith(err.format(settings.app.data_dir))
    assert bool(said.err) == bool(err)


def test_it_waits_until_the_daemon_has_ended(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leave, "STOP_S", 0.2)
    with open_data_dir(settings.app.data_dir):
        leave._wait_for_the_end(settings.app.data_dir)  # not for ever
    leave._wait_for_the_end(settings.app.data_dir)


def test_a_daemon_that_does_not_come_up_has_said_why(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings, lambda settings, beside=None: 1) == 1
    assert capsys.readouterr().err == "leave: stopped before it was done: run it again\n"
