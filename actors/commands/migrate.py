"""`supervisor.py migrate`: makes what schema.sql says and the database lacks."""

from __future__ import annotations

import argparse
import sys

import trio

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreMisconfigured
from actors.embedded.addresses import postgres_address
from actors.history.postgres import migration
from actors.history.postgres.libpq import connect
from actors.history.postgres.table_check import check_session, check_table
from actors.settings.load import Settings

CONNECT_S = 5.0


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "migrate",
        help="apply schema.sql to the database",
        description="Makes what schema.sql says and the database lacks. The daemon does the same when it starts.",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0 when the daemon can use the database afterwards, or with --dry-run could; 1 when it could not."""
    address = postgres_address(settings)
    changes, wrong = trio.run(migrate, address, args.dry_run)
    for change in changes:
        print(f"{'would create' if args.dry_run else 'created'} {change}")
    if wrong is not None:
        print(wrong, file=sys.stderr)
        return 1
    if not changes:
        print(f"database {address.database!r}: nothing to change")
    return 0


async def migrate(address: PostgresAddress, dry_run: bool) -> tuple[list[str], StoreMisconfigured | None]:
    """(what was made, or would be; why the table cannot be used). Raises StoreUnavailable or StoreMisconfigured."""
    connection = await connect(address, "race-tracking migrate", CONNECT_S, check_session)
    try:
        changes = await (migration.plan if dry_run else migration.apply)(connection)
        try:
            if not dry_run or migration.TABLE not in changes:
                await check_table(connection)
        except StoreMisconfigured as wrong:
            return changes, wrong
        return changes, None
    finally:
        connection.close()
