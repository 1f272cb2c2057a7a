"""By what `tracking_positions` is partitioned, and which ids have no partition: asked once some were refused."""

from __future__ import annotations

from collections.abc import Sequence

from actors.core.errors import NoPartition, Partitions, StoreMisconfigured
from actors.history.postgres import binary
from actors.history.postgres.libpq import PostgresConnection
from actors.history.postgres.table_check import texts

# `id` is the only column that they can be made by: its unique index has to have all such columns. A default partition
# that is alone has no constraint. The condition is to be put after `where`, with a column `id` before.
PRESENT = """
select coalesce(pg_get_partkeydef(to_regclass('tracking_positions')), ''), coalesce(string_agg(
  coalesce(pg_get_partition_constraintdef(relid), 'true'), ' or ' order by relid), 'false')
from pg_partition_tree(to_regclass('tracking_positions')) where isleaf"""

BY_TIME = "RANGE (id)"
"""Ids begin with their time. As pg_get_partkeydef says it."""
BY = "select coalesce(pg_get_partkeydef(to_regclass('tracking_positions')), '')"


async def is_by_time(connection: PostgresConnection) -> bool:
    """Whether the table is in partitions, and by time. Raises as any query does."""
    return await texts(connection, BY) == [[BY_TIME]]


async def present(connection: PostgresConnection) -> Partitions:
    """Raises as any query does."""
    ((by, takes),) = await texts(connection, PRESENT)
    return Partitions(by, takes)


async def missing_for(connection: PostgresConnection, ids: Sequence[bytes], why: str) -> StoreMisconfigured:
    """What to raise after `why`: NoPartition for those of the ids that none takes.

    StoreMisconfigured where each has one: it was made just now, or it is another table, which a trigger writes to.
    """
    partitions = await present(connection)
    result = await connection.query(
        f"select id from unnest($1) as row (id) where not ({partitions.takes})",
        [binary.uuid_array(ids)],
        [binary.UUID_ARRAY],
    )
    found = {result.get_value(row, 0) or b"" for row in range(result.ntuples)}
    return NoPartition(why, found, partitions) if found and partitions.by else StoreMisconfigured(why)
