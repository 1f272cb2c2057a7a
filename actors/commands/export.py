"""`supervisor.py export RACE`: a race's history as jsonl, csv, geojson or gpx, with flat memory."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import trio
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from actors.core.export import FORMATS, formatter
from actors.core.queries import History, HistoryQuery
from actors.core.timestamps import parse_ms
from actors.drivers.history import PostgresHistory
from actors.embedded import postgres_address
from actors.errors import TrackingError
from actors.settings import Settings


class OutputFailed(TrackingError):
    """The file cannot be written."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "export",
        help="write a race's history to a file",
        description="Writes a race's history. What it writes as jsonl, `replay` takes back.",
    )
    parser.add_argument("race", metavar="RACE", help="race id")
    parser.add_argument("--format", choices=list(FORMATS), default="jsonl", help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument("--participant", metavar="ID", help="only this participant")
    parser.add_argument("--from", dest="from_ms", type=moment, metavar="TIME", help="inclusive, 2025-07-01T08:15:30Z")
    parser.add_argument("--to", dest="to_ms", type=moment, metavar="TIME", help="exclusive")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0 when everything was written, or when the reader of a pipe left."""
    history = PostgresHistory(postgres_address(settings))
    query = HistoryQuery(args.race, args.participant, args.from_ms, args.to_ms)
    try:
        if args.output is None:
            written = trio.run(write, history, query, args.format, sys.stdout.buffer)
        else:
            with whole_file(args.output) as file:
                written = trio.run(write, history, query, args.format, file)
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if not written:
        print(f"race {args.race!r}: no fixes in history", file=sys.stderr)
    return 0


async def write(history: History, query: HistoryQuery, name: str, file: BinaryIO) -> int:
    """Write one export; returns the number of fixes. A count runs on a terminal that the output does not go to."""
    chosen = formatter(name)
    console = Console(stderr=True)
    # Refreshed by hand: rich would start a thread.
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.completed:,.0f} fixes"), console=console, auto_refresh=False, transient=True,
        disable=not console.is_terminal or file.isatty(),
    )  # fmt: skip
    with progress:
        task = progress.add_task("export", total=None)
        async with history.stream(query, chosen.by_participant) as chunks:
            file.write(chosen.header())
            async for fixes in chunks:
                file.write(chosen.chunk(fixes))
                progress.update(task, advance=len(fixes), refresh=True)
        file.write(chosen.footer())
        file.flush()
        return int(progress.tasks[0].completed)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that appears under its name only when it is complete; a device or pipe is written as it stands."""
    special = path.exists() and not path.is_file()
    part = path if special else path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        if not special:
            part.replace(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"cannot write {path}: {error.strerror}") from None
    finally:
        if not special:
            part.unlink(missing_ok=True)


def moment(text: str) -> int:
    """Unix ms of a timestamp as in CONTRACT section 3, for argparse."""
    found = parse_ms(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 2025-07-01T08:15:30Z")
    return found
