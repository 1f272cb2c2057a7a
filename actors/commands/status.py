"""`supervisor.py status`: the running daemon's supervision tree."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.commands.terminal import write_data
from actors.data_dir import socket_path
from actors.settings.load import Settings

ANSWER_S = 5.0  # a daemon that is alive answers within milliseconds
PIPE_WIDTH = 200  # columns when nobody watches: nothing is cut off

_GOOD = {"running", "waiting"}


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "status",
        help="show the running daemon's supervision tree",
        description="Shows the running daemon's supervision tree. Exits with 1 when none is running.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print the answer of the daemon that owns data_dir: 0, or 1 with one line on stderr when there is none."""
    data_dir = settings.app.data_dir
    path = socket_path(data_dir, "control.sock")
    try:
        status = json.loads(ask(os.fspath(path)))
    except (FileNotFoundError, ConnectionRefusedError):
        return _failed(
            f"no daemon is running with data_dir {data_dir}: start it, or name its settings: --settings PATH"
        )
    except (OSError, ValueError) as error:
        return _failed(f"the daemon with data_dir {data_dir} gave no usable answer on {path}: {error}")
    if args.json:
        write_data(json.dumps(status, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
    else:
        show(status, Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False))
    return 0


def ask(path: str) -> bytes:
    """Everything that the socket at `path` gives. Raises OSError (TimeoutError after ANSWER_S without a byte)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(path)
        connection.shutdown(socket.SHUT_WR)  # nothing to say: the status, please
        parts: list[bytes] = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def show(status: dict[str, Any], console: Console) -> None:
    """The document of `supervision/control.py` as a head line, a table and a line of components."""
    facts = [f"{key} {status[key]}" for key in ("pid", "node_id") if key in status]
    if "uptime_s" in status:
        facts.append(f"up {duration(status['uptime_s'])}")
    if "races" in status:
        facts.append(f"live races {status['races']}")
    if facts:
        console.print(Text(", ".join(facts)))
    table = Table(box=None, pad_edge=False)
    for name in ("actor", "state"):
        table.add_column(name)
    for name in ("restarts", "mailbox depth", "handled"):
        table.add_column(name, justify="right")
    for actor in status["actors"]:
        state = Text(str(actor["state"]), style="green" if actor["state"] in _GOOD else "bold red")
        numbers = (str(actor[key]) for key in ("restarts", "mailbox_depth", "handled"))
        table.add_row(Text(str(actor["actor"])), state, *numbers)
    console.print(table)
    for actor in status["actors"]:
        if actor.get("last_crash"):
            console.print(Text(f"{actor['actor']} crashed last: {actor['last_crash']}"))
    line = Text("components: ")
    for position, (name, component) in enumerate(status["components"].items()):
        line.append(", " if position else "")
        line.append(f"{name} {'up' if component['up'] else 'down'}", style="green" if component["up"] else "bold red")
        line.append("" if component["up"] and component["detail"] == "ok" else f" ({component['detail']})")
    console.print(line)


def duration(seconds: float) -> str:
    """`3 d 4 h`, `4 h 5 min`, `5 min 6 s`, `6 s`."""
    left = int(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _failed(message: str) -> int:
    print(f"status: {message}", file=sys.stderr)
    return 1
