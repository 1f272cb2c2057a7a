"""`supervisor.py leave`: takes a node out for good, without anything of it missing."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import trio

from actors.commands.run import Serve
from actors.core.errors import NotStarted
from actors.data_dir import open_data_dir, socket_path
from actors.settings.load import Settings

WORD = b"leave\n"
STOP_S = 60.0
"""For the daemon to end, when it has answered."""
LOOK_S = 0.05

NOT_ITS_OWN = {
    "none": "left: this node has no session at the broker",
    "standby": "left: the session at the broker stays, for the other nodes",
}
"""[cluster] ingest -> what is said of a session that `leave` does not end."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "leave",
        help="take this node out for good: drain its session and its spool, end both",
        description="Takes this node out for good: unsubscribes, makes durable what its session at the broker and its "
        "spool hold, ends the session and the daemon. Where none runs, it does so itself. Exits with 1 when something "
        "stayed.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0 when nothing of this node stays anywhere, 1 otherwise, with one line for each thing that does."""
    path = socket_path(settings.app.data_dir, "control.sock")
    try:
        answer = ask(path)
        _wait_for_the_end(settings.app.data_dir)
    except (FileNotFoundError, ConnectionRefusedError):
        answer = alone(args.serve, settings, path)
    except OSError as error:
        return _failed(f"the daemon with data_dir {settings.app.data_dir} did not answer on {path}: {error}")
    return tell(answer, settings)


def ask(path: Path) -> bytes:
    """The running daemon, however long it takes. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(os.fspath(path))
        connection.sendall(WORD)
        parts: list[bytes] = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def alone(serve: Serve, settings: Settings, path: Path) -> bytes:
    """A daemon for this purpose: it takes what there is and leaves. Raises NotStarted."""
    answer = b""

    async def leave() -> None:
        nonlocal answer
        with trio.CancelScope(shield=True):  # the daemon ends as soon as it has answered, or its answer ends
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(WORD)
                answer = b"".join([part async for part in stream])

    serve(settings, beside=leave)
    return answer


def tell(answer: bytes, settings: Settings) -> int:
    """What came of it, in words; the exit code."""
    try:
        came: dict[str, Any] = json.loads(answer)
    except ValueError:
        return _failed("stopped before it was done: run it again")
    rows, taken = came["rows_in_spool"], came["drained"]
    if settings.cluster.ingest in NOT_ITS_OWN:
        print(NOT_ITS_OWN[settings.cluster.ingest], flush=True)
    elif came["left"]:
        print(f"left the broker: {taken} messages were still taken, and there is no session any more", flush=True)
    else:
        _failed(f"still at the broker: {came['why_not']}; {taken} messages were taken. Run it again")
    if rows:
        _failed(f"{rows} rows stay in {settings.app.data_dir}: PostgreSQL did not take them. Run it again when it does")
    return 0 if came["left"] and not rows else 1


def _wait_for_the_end(folder: Path) -> None:
    """Of the daemon, which holds the lock of its data_dir: who deletes that next deletes nothing that is in use."""
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        with contextlib.suppress(NotStarted), open_data_dir(folder):
            return
        time.sleep(LOOK_S)


def _failed(message: str) -> int:
    print(f"leave: {message}", file=sys.stderr)
    return 1
