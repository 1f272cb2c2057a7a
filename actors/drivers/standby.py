"""Does PostgreSQL wait for a synchronous standby that is not there? Asked at every connect, so after every hang."""

from __future__ import annotations

from actors.drivers.libpq import Connection
from actors.drivers.table_check import texts
from actors.errors import StoreUnavailable

WAITS_S = 1.0
"""Longer than a commit takes with a standby that is there."""

# What an ordinary role may know: the waits of its own sessions, and how many standbys there are.
WAITING = f"""
select current_setting('synchronous_standby_names'), (select count(*) from pg_stat_replication)::text
from pg_stat_activity where wait_event = 'SyncRep' and usename = current_user
  and query_start < clock_timestamp() - interval '{WAITS_S} s' limit 1"""


async def check_standby(connection: Connection) -> None:
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
