"""`supervisor.py export RACE`: a race's history as jsonl, csv, geojson or gpx, with flat memory."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import trio
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from actors.commands.arguments import participant_id, race_id
from actors.commands.export_files import FileEach, OneFile, made_folder, whole_file
from actors.core.timestamps import parse_ms
from actors.embedded.addresses import postgres_address
from actors.history.export import FORMATS
from actors.history.postgres.reader import PostgresHistory
from actors.history.queries import History, HistoryQuery
from actors.settings.load import Settings


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "export",
        help="write a race's history to a file",
        description="Writes a race's history. What it writes as jsonl, `replay` takes back.",
    )
    parser.add_argument("race", type=race_id, metavar="RACE", help="race id")
    parser.add_argument("--format", choices=list(FORMATS), default="jsonl", help="default: %(default)s")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    target.add_argument(
        "--split", type=Path, metavar="DIR", help="a file a participant, named after them, in this folder"
    )
    parser.add_argument("--participant", type=participant_id, metavar="ID", help="only this participant")
    parser.add_argument("--from", dest="from_ms", type=moment, metavar="TIME", help="inclusive, 2025-07-01T08:15:30Z")
    parser.add_argument("--to", dest="to_ms", type=moment, metavar="TIME", help="exclusive")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0 when everything was written, or when the reader of a pipe left."""
    history = PostgresHistory(postgres_address(settings))
    query = HistoryQuery(args.race, args.participant, args.from_ms, args.to_ms)
    try:
        with ExitStack() as opened:
            sink: OneFile | FileEach
            if args.split is not None:
                sink = FileEach(made_folder(args.split), args.format, opened)
            elif args.output is not None:
                sink = OneFile(opened.enter_context(whole_file(args.output)), args.format)
            else:
                sink = OneFile(sys.stdout.buffer, args.format)
            written = trio.run(write, history, query, sink)
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if not written:
        print(f"race {args.race!r}: no fixes in history", file=sys.stderr)
    return 0


async def write(history: History, query: HistoryQuery, sink: OneFile | FileEach) -> int:
    """Write one export; returns the number of fixes. A count runs on a terminal that the output does not go to."""
    console = Console(stderr=True)
    # Refreshed by hand: rich would start a thread. The spinner is one that every terminal has the characters for.
    progress = Progress(
        SpinnerColumn("line"),
        TextColumn("{task.completed:,.0f} fixes"),
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal or sink.to_terminal,
    )
    with progress:
        task = progress.add_task("export", total=None)
        async with history.stream(query, sink.by_participant) as chunks:
            async for fixes in chunks:
                sink.write(fixes)
                progress.update(task, advance=len(fixes), refresh=True)
        sink.end()
        return int(progress.tasks[0].completed)


def moment(text: str) -> int:
    """Unix ms of a timestamp in the form of the payload, for argparse."""
    found = parse_ms(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 2025-07-01T08:15:30Z")
    return found
