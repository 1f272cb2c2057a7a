"""Makes partitions of `tracking_positions`, beside writers and readers.

`create table ... partition of` would take an ACCESS EXCLUSIVE lock on the whole table: it waits for every reader, an
export of minutes among them, and all writers wait behind it. So the table is made alone, which concerns nobody, and
attached while it is empty: SHARE UPDATE EXCLUSIVE, which readers and writers do not notice, not even one that is waited
for. Each in a transaction of its own: a year of weeks at once would fill the server's table of locks.
"""

from __future__ import annotations

import attrs

from actors.core.errors import StoreMisconfigured
from actors.history.periods import Period, Width, ahead, name_of, read_bounds, sql_of, width_of
from actors.history.postgres import binary
from actors.history.postgres.libpq import PostgresConnection, within
from actors.history.postgres.partitions import BY_TIME
from actors.history.postgres.table_check import texts

LOCK = 0x6D6F6E746873  # "months": the advisory lock that nodes take in turn
WAIT_FOR_LOCK = "5s"  # for the other nodes, or somebody's VACUUM, ANALYZE, CREATE INDEX or ALTER TABLE
MAKE_S = 10.0

STATE = """
select coalesce(pg_get_partkeydef(c.oid), ''), c.relnamespace::regnamespace::text, c.relowner::regrole::text,
  (extract(epoch from now()) * 1000)::bigint::text,
  coalesce((select string_agg(coalesce(pg_get_expr(p.relpartbound, p.oid), ''), ';')
    from pg_inherits i join pg_class p on p.oid = i.inhrelid where i.inhparent = c.oid), ''),
  coalesce((select string_agg(relname, ';') from pg_class t where t.relnamespace = c.relnamespace
    and starts_with(relname, 'tracking_positions_') and relkind in ('r', 'p') and not relispartition), '')
from pg_class c where c.oid = to_regclass('tracking_positions')"""


@attrs.frozen
class Layout:
    """How the table is partitioned; names as SQL."""

    by: str  # such as "RANGE (id)"; empty: not at all
    schema: str
    owner: str
    now_ms: int
    bounds: tuple[str, ...]  # of each partition
    apart: tuple[str, ...]  # tables that are called as partitions are, and are none

    @property
    def present(self) -> list[Period]:
        """Those that are ranges of time."""
        return [period for text in self.bounds if (period := read_bounds(text)) is not None]

    @property
    def width(self) -> Width | None:
        """Of those that the daemon is to make: None where somebody else makes others, or one takes whatever comes."""
        return width_of(self.present) if self.is_by_time else None

    @property
    def is_by_time(self) -> bool:
        """With a default partition each new one would lock that one and read all of it."""
        return self.by == BY_TIME and "DEFAULT" not in self.bounds

    def missing(self, width: Width, since_ms: int | None = None) -> list[Period]:
        """Of `wanted` all but those that somebody has detached: a table is there under their name."""
        return [period for period in self.wanted(width, since_ms) if name_of(period, width) not in self.apart]

    def detached(self, width: Width, since_ms: int | None = None) -> list[str]:
        """The names of those."""
        names = [name_of(period, width) for period in self.wanted(width, since_ms)]
        return [name for name in names if name in self.apart]

    def wanted(self, width: Width, since_ms: int | None = None) -> list[Period]:
        """As `ahead`."""
        return ahead(self.present, width, self.now_ms, since_ms)


async def layout(connection: PostgresConnection) -> Layout | None:
    """None: there is no table. Raises as any query does."""
    rows = await texts(connection, STATE)
    if not rows:
        return None
    ((by, schema, owner, now_ms, bounds, apart),) = rows
    return Layout(by, schema, owner, int(now_ms), *(tuple(filter(None, text.split(";"))) for text in (bounds, apart)))


async def make(
    connection: PostgresConnection, made: list[str], width: Width | None = None, since_ms: int | None = None
) -> None:
    """Make what is missing; its names are added to `made`. Without a width that of those that there are, if any.

    Raises StoreUnavailable (also when the lock was not to be had), or StoreMisconfigured, which says what to do.
    """
    while True:
        with within(MAKE_S):
            async with connection.transaction(f"set local lock_timeout = '{WAIT_FOR_LOCK}'"):
                await connection.query("select pg_advisory_xact_lock($1)", [binary.int8(LOCK)], [binary.INT8])
                there = await layout(connection)
                wanted = (width or there.width) if there else None
                if there is None or wanted is None:
                    return
                missing = there.missing(wanted, since_ms)
                if missing:
                    await _make(connection, there, missing[0], wanted)
        if not missing:
            break
        made.append(name_of(missing[0], wanted))
    if detached := there.detached(wanted, since_ms):
        raise StoreMisconfigured(
            f"{', '.join(detached)} {'is' if len(detached) == 1 else 'are'} there, and no partition of"
            " tracking_positions: attach it, or give it another name"
        )


async def _make(connection: PostgresConnection, there: Layout, period: Period, width: Width) -> None:
    create, attach = sql_of(period, width, there.schema)
    owner = f"alter table {there.schema}.{name_of(period, width)} owner to {there.owner}"
    try:
        await connection.script("; ".join((create, owner, attach)))
    except StoreMisconfigured as error:
        by_hand = "; ".join(sql_of(period, width))
        raise StoreMisconfigured(
            f"{error}: run `python supervisor.py migrate --partition {width}` as the owner of tracking_positions"
            f" ({there.owner}), or: {by_hand}"
        ) from None
