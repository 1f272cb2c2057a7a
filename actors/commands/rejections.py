"""`supervisor.py rejections`: what was rejected and why, newest first."""

from __future__ import annotations

import argparse
import sys
from uuid import UUID

import msgspec
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.commands.arguments import any_name
from actors.commands.terminal import write_data
from actors.core.errors import RejectionCode
from actors.core.printable import printable
from actors.core.timestamps import format_ms
from actors.embedded.addresses import postgres_address
from actors.history.postgres.reader import PostgresHistory
from actors.history.queries import StoredRejection
from actors.settings.load import Settings

MOST = 10_000  # rows in one listing
SHOWN = 200  # characters of a payload in the table
PIPE_WIDTH = 400  # columns when nobody watches


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "rejections",
        help="list rejected payloads, newest first",
        description="Lists payloads, or elements of them, that were rejected, newest first.",
    )
    parser.add_argument("--race", type=any_name, metavar="R", help="only what names this race, also one that cannot be")
    parser.add_argument("--code", choices=[str(code) for code in RejectionCode], help="only these")
    parser.add_argument("--limit", type=limit, default=100, help=f"1 to {MOST}, default: %(default)s")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0, also when there are none."""
    history = PostgresHistory(postgres_address(settings))

    async def read() -> list[StoredRejection]:
        return await history.rejections(race_id=args.race, code=args.code, limit=args.limit)

    rows = trio.run(read)
    if args.json:
        for row in rows:
            write_data(as_json(row) + b"\n")
    elif rows:
        Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False).print(as_table(rows))
    else:
        print("no rejections", file=sys.stderr)
    return 0


def as_json(row: StoredRejection) -> bytes:
    """`id`, `receivedAt`, `topic`, `code`, `detail`, `payload`; bytes that are not UTF-8 as backslash escapes."""
    return msgspec.json.encode(
        {
            "id": str(UUID(bytes=row.id)),
            "receivedAt": format_ms(row.received_ms),
            "topic": row.topic,
            "code": row.code,
            "detail": row.detail,
            "payload": row.payload.decode("utf-8", "backslashreplace"),
        }
    )


def as_table(rows: list[StoredRejection]) -> Table:
    """For a person."""
    table = Table("received", "code", "topic", "detail", "payload", box=None, pad_edge=False)
    for row in rows:
        payload = row.payload.decode("utf-8", "backslashreplace")
        cells = (format_ms(row.received_ms), row.code, row.topic, row.detail, payload[:SHOWN])
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def limit(text: str) -> int:
    """A whole number 1..MOST, for argparse."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MOST}")
