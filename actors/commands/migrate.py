"""`supervisor.py migrate`: makes what schema.sql says and the database lacks."""

from __future__ import annotations

import argparse

import trio

from actors.drivers import migration
from actors.drivers.addresses import PostgresAddress
from actors.drivers.libpq import connect
from actors.drivers.table_check import check_session, check_table
from actors.embedded import postgres_address
from actors.settings import Settings

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
    """0 when the schema is complete afterwards, or with --dry-run when it was printed."""
    address = postgres_address(settings)
    changes = trio.run(migrate, address, args.dry_run)
    for change in changes:
        print(f"{'would create' if args.dry_run else 'created'} {change}")
    if not changes:
        print(f"database {address.database!r}: nothing to change")
    return 0


async def migrate(address: PostgresAddress, dry_run: bool) -> list[str]:
    """What was made, or would be. Raises StoreUnavailable or StoreMisconfigured."""
    connection = await connect(address, "race-tracking migrate", CONNECT_S)
    try:
        if dry_run:
            return await migration.plan(connection)
        await check_session(connection)
        made = await migration.apply(connection)
        await check_table(connection)
        return made
    finally:
        connection.close()
