"""`supervisor.py migrate`: makes what schema.sql says and the database lacks, and partitions."""

from __future__ import annotations

import argparse
import sys
import time

import trio

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreMisconfigured
from actors.core.timestamps import parse_ms
from actors.embedded.addresses import postgres_address
from actors.history.periods import Width, ahead, name_of
from actors.history.postgres import migration
from actors.history.postgres.attaching import layout, make
from actors.history.postgres.converting import convert, is_empty
from actors.history.postgres.libpq import PostgresConnection, connect
from actors.history.postgres.partitions import BY_TIME
from actors.history.postgres.table_check import check_session, check_table
from actors.settings.load import Settings

CONNECT_S = 5.0
NOT_EMPTY = (
    'tracking_positions has rows and stays as it is: README.md, "Partitions", says how to move them while daemons run'
)


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "migrate",
        help="apply schema.sql to the database",
        description="Makes what schema.sql says and the database lacks. The daemon does the same when it starts.",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")
    parser.add_argument(
        "--partition",
        type=Width,
        choices=list(Width),
        help="make tracking_positions, while it is empty, a table in partitions by time; and those that are missing",
    )
    parser.add_argument(
        "--since", type=since_ms, metavar="YYYY-MM-DD", help="with --partition: all from then on, for old recordings"
    )
    parser.set_defaults(run=run)


def since_ms(text: str) -> int:
    """Unix ms of a day, 00:00 UTC."""
    found = parse_ms(f"{text}T00:00:00Z")
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a day from 2000-01-01 on, as YYYY-MM-DD")
    return found


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0 when the daemon can use the database afterwards, or with --dry-run could; 1 when it could not."""
    if args.since is not None and args.partition is None:
        print("--since needs --partition", file=sys.stderr)
        return 2
    address = postgres_address(settings)
    changes, wrong = trio.run(migrate, address, args.dry_run, args.partition, args.since)
    for change in changes:
        print(f"{'would create' if args.dry_run else 'created'} {change}")
    if wrong is not None:
        print(wrong, file=sys.stderr)
        return 1
    if not changes:
        print(f"database {address.database!r}: nothing to change")
    return 0


async def migrate(
    address: PostgresAddress, dry_run: bool, width: Width | None = None, since: int | None = None
) -> tuple[list[str], StoreMisconfigured | None]:
    """(what was made, or would be; why the table cannot be used). Raises StoreUnavailable or StoreMisconfigured."""
    connection = await connect(address, "race-tracking migrate", CONNECT_S, check_session)
    try:
        changes = await (migration.plan if dry_run else migration.apply)(connection)
        try:
            if not dry_run or migration.TABLE not in changes:
                await check_table(connection)
            if width is not None:
                await partition(connection, dry_run, width, since, changes)
        except StoreMisconfigured as wrong:
            return changes, wrong
        return changes, None
    finally:
        connection.close()


async def partition(
    connection: PostgresConnection, dry_run: bool, width: Width, since: int | None, changes: list[str]
) -> None:
    """`since`: Unix ms. What is made, or would be, is added to the changes. Raises as `migrate`."""
    there = await layout(connection)
    if there is None or not there.by:
        if there is not None and not await (is_empty if dry_run else convert)(connection):
            raise StoreMisconfigured(NOT_EMPTY)
        changes.append("partitioned table tracking_positions")
    elif not there.is_by_time:
        other = "by RANGE (id) with a default partition" if there.by == BY_TIME else f"by {there.by}"
        raise StoreMisconfigured(f"tracking_positions is partitioned {other}: more of them can only be made by hand")
    if dry_run:
        missing = there.missing(width, since) if there else ahead((), width, time.time_ns() // 1_000_000, since)
        changes += [f"table {name_of(period, width)}" for period in missing]
    else:
        made: list[str] = []
        try:
            await make(connection, made, width, since)
        finally:
            changes += [f"table {name}" for name in made]
