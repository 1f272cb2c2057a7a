"""The control socket, and the status command that asks it."""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors.commands import parser, status
from actors.core.errors import NotStarted
from actors.data_dir import socket_path
from actors.settings.load import Settings
from actors.supervision.control import ANSWER_S, WORD_S, ControlSocket
from supervisor import serve

SNAPSHOT: dict[str, Any] = {
    "pid": 4711,
    "node_id": "node-é",
    "uptime_s": 3725.9,
    "races": 1,
    "actors": [
        {"actor": "reader", "state": "running", "restarts": 0, "mailbox_depth": 12, "handled": 34567},
        {
            "actor": "race [bold]x",
            "state": "parked",
            "restarts": 5,
            "mailbox_depth": 0,
            "handled": 8,
            "last_crash": "E: [red]",
        },
    ],
    "components": {"broker": {"up": True, "detail": "ok"}, "redis": {"up": False, "detail": "connection refused"}},
}


@asynccontextmanager
async def nobody_leaves() -> AsyncIterator[dict[str, Any]]:
    raise AssertionError
    yield {}


async def test_each_connection_gets_one_document_of_that_moment(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    asked = iter(range(10))
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlSocket(path, lambda: {"asked": next(asked), "name": "é"}, nobody_leaves).run)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        for turn in range(3):
            async with await trio.open_unix_socket(path) as stream:
                document = b"".join([part async for part in stream])
            assert json.loads(document) == {"asked": turn, "name": "é"}
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_clients_that_leave_or_do_not_read_disturb_nobody(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    big = {"x": "y" * 4_000_000}
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlSocket(path, lambda: big, nobody_leaves).run)
        lazy = await trio.open_unix_socket(path)
        gone = await trio.open_unix_socket(path)
        await trio.aclose_forcefully(gone)
        async with await trio.open_unix_socket(path) as stream:
            assert json.loads(b"".join([part async for part in stream])) == big
        await lazy.aclose()
        nursery.cancel_scope.cancel()


async def test_who_does_not_read_is_left(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    control = ControlSocket(Path("unused"), lambda: {"x": 1}, nobody_leaves)
    await control._answer(ours)
    assert trio.current_time() == WORD_S + ANSWER_S
    await theirs.aclose()


@pytest.mark.parametrize("said", [b"leave\n", b"leave"])
async def test_who_says_leave_gets_what_came_of_it_before_the_daemon_ends(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "control.sock"
    ended = trio.Event()

    @asynccontextmanager
    async def leave() -> AsyncIterator[dict[str, Any]]:
        yield {"left": True}
        ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(ControlSocket(path, lambda: {"status": 1}, leave).run)
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(said)
            if not said.endswith(b"\n"):
                await stream.send_eof()
            assert json.loads(b"".join([part async for part in stream])) == {"left": True}
        await ended.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [b"", b"status\n"])
async def test_anything_else_is_the_status(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlSocket(path, lambda: {"status": 1}, nobody_leaves).run)
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(said)
            assert json.loads(await stream.receive_some(100)) == {"status": 1}
        nursery.cancel_scope.cancel()


async def test_a_path_that_is_taken_is_said(tmp_path: Path) -> None:
    (tmp_path / "control.sock").mkdir()
    with pytest.raises(NotStarted, match=r"control\.sock"):
        await ControlSocket(tmp_path / "control.sock", dict, nobody_leaves).run()


# --- supervisor.py status ---


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    plain = Settings()
    return attrs.evolve(plain, app=attrs.evolve(plain.app, data_dir=tmp_path))


def ask_status(settings: Settings, *options: str) -> int:
    line = argparse.ArgumentParser()
    status.add(line.add_subparsers())
    args = line.parse_args(["status", *options])
    return int(args.run(args, settings))


def while_answering(settings: Settings, answer: bytes, act: Callable[[], int]) -> int:
    """Something at the daemon's place that gives this answer once."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(socket_path(settings.app.data_dir, "control.sock")))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return act()
        finally:
            thread.join()


def test_status_is_a_table_and_a_line_of_components(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.dumps(SNAPSHOT).encode()
    assert while_answering(settings, answer, lambda: ask_status(settings)) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "pid 4711, node_id node-é, up 1 h 2 min, live races 1",
        "actor state restarts mailbox depth handled",
        "reader running 0 12 34567",
        "race [bold]x parked 5 0 8",
        "race [bold]x crashed last: E: [red]",
        "components: broker up, redis down (connection refused)",
    ]


def test_status_as_json_is_the_whole_document(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.dumps(SNAPSHOT).encode()
    assert while_answering(settings, answer, lambda: ask_status(settings, "--json")) == 0
    assert json.loads(capsys.readouterr().out) == SNAPSHOT


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_status_on_a_terminal_without_the_characters(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    snapshot = SNAPSHOT | {"node_id": "レース"}
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / "settings.ini").write_text("")
    printed = []
    for options in ((), ("--json",)):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        line = ["--settings", str(tmp_path / "settings.ini"), "status", *options]
        assert while_answering(settings, json.dumps(snapshot).encode(), partial(parser.main, line, serve)) == 0
        sys.stdout.seek(0)
        printed.append(sys.stdout.buffer.read())
        socket_path(settings.app.data_dir, "control.sock").unlink()
    assert b"node_id \\u30ec\\u30fc\\u30b9," in printed[0]
    assert json.loads(printed[1].decode()) == snapshot


def test_status_without_a_daemon_is_one_line_and_1(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask_status(settings) == 1
    advice = "start it, or name its settings: --settings PATH"
    assert capsys.readouterr().err == f"status: no daemon is running with data_dir {settings.app.data_dir}: {advice}\n"


def test_status_after_kill_9_is_one_line_and_1(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(os.fspath(socket_path(settings.app.data_dir, "control.sock")))
    assert ask_status(settings) == 1
    assert capsys.readouterr().err.startswith("status: no daemon is running")


def test_status_with_half_an_answer_is_one_line_and_1(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert while_answering(settings, b'{"actors": [', lambda: ask_status(settings)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no usable answer" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h"), (86400, "1 d")],
)
def test_durations_have_two_parts(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text
