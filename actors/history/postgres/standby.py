"""Does PostgreSQL wait for a synchronous standby that is not there? Asked at every connect, so after every hang."""

from __future__ import annotations

import re

from actors.core.errors import StoreUnavailable
from actors.history.postgres.libpq import PostgresConnection
from actors.history.postgres.table_check import texts

WAITS_S = 1.0
"""Longer than a commit takes with a standby that is there."""

# What an ordinary role may know: the waits of its own sessions, and how many standbys there are.
WAITING = f"""
select current_setting('synchronous_standby_names'), (select count(*) from pg_stat_replication)::text
from pg_stat_activity where wait_event = 'SyncRep' and usename = current_user
  and query_start < clock_timestamp() - interval '{WAITS_S} s' limit 1"""

# Who may not read the statistics sees that there is a standby, not whether it is one that counts: NULL.
ATTACHED = """
select current_setting('synchronous_standby_names'), current_setting('synchronous_commit'), count(*) filter (
  where sync_state is null or sync_state in ('sync', 'quorum'))::text from pg_stat_replication"""
_NUMBER = re.compile(r"\s*(?:first\s+|any\s+)?(\d+)\s*\(", re.IGNORECASE)


async def missing_standby(connection: PostgresConnection) -> str:
    """What commits would wait for, before any has; empty when for nothing."""
    ((names, commit, attached),) = await texts(connection, ATTACHED)
    number = _NUMBER.match(names)
    wanted = int(number[1]) if number else 1
    if not names.strip() or commit in ("off", "local") or int(attached) >= wanted:
        return ""
    return (
        f"synchronous standbys are missing: {attached} of {wanted} attached (synchronous_standby_names = {names!r}),"
        " and commits wait until they are"
    )


async def check_standby(connection: PostgresConnection) -> None:
    """Raises StoreUnavailable while a session of ours, given up or of another node, hangs in its commit.

    Nothing ends such a session but the standby, a reload without it, or somebody's pg_cancel_backend; until then a new
    one would hang beside it.
    """
    found = await texts(connection, WAITING)
    if found:
        ((names, attached),) = found
        raise StoreUnavailable(
            f"waits for a synchronous standby (synchronous_standby_names = {names!r}, {attached} attached)"
        )
