"""Writes to PostgreSQL: one connection, one statement a batch, so one transaction.

Owned by persistence. A call either committed or raises; after StoreUnavailable it may have committed all the same, and
repeating it is harmless because ids are functions of what they name. The next call connects again by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import structlog
import trio

from actors.core.addresses import PostgresAddress
from actors.core.errors import NoPartition, Partitions, RowRefused, StoreMisconfigured
from actors.core.fix import STATUSES, Fix
from actors.core.rejection import Rejection
from actors.history.postgres import attaching, binary, migration, partitions
from actors.history.postgres.libpq import PostgresConnection, connect, within
from actors.history.postgres.recent import Recent, RecentBatch
from actors.history.postgres.standby import check_standby
from actors.history.postgres.table_check import check_session, check_table

log = structlog.get_logger("postgres")

APPLICATION = "race-tracking writer"
PARTITIONS = "race-tracking partitions"
CONNECT_S = 5.0
CALL_S = 10.0
PING_S = 3.0
"""Short: after a black hole only a new connection gets through soon."""

KEEP_REJECTIONS = "30 days"
MOST_REJECTIONS = 1_000_000
TRIM_ROWS = 10_000  # a statement: short enough that a batch of fixes hardly waits for it

INSERT = f"""
insert into tracking_positions
  (id, participant_id, race_id, latitude, longitude, client_timestamp, server_received_at, status)
select u.id, u.participant_id, u.race_id, u.lat_e7 * 0.0000001, u.lon_e7 * 0.0000001, u.sent_at, u.arrived_at,
  ('{{{",".join(STATUSES)}}}'::participant_status[])[u.status + 1]
from unnest($1, $2, $3, $4, $5, $6, $7, $8)
  as u (id, participant_id, race_id, lat_e7, lon_e7, sent_at, arrived_at, status)
on conflict (id) do nothing"""
# Written into the log of PostgreSQL in the same transaction: only for a commit with something of its own there does
# it wait, for its disk and for a synchronous standby, and then for all that came before, too. It takes no right.
MARKED = """
where (select pg_logical_emit_message(true, 'race-tracking', '')) is not null
on conflict"""
INSERT_TYPES = (
    binary.UUID_ARRAY,
    binary.TEXT_ARRAY,
    binary.TEXT_ARRAY,
    binary.INT4_ARRAY,
    binary.INT4_ARRAY,
    binary.TIMESTAMPTZ_ARRAY,
    binary.TIMESTAMPTZ_ARRAY,
    binary.INT2_ARRAY,
)

REJECT = """
insert into tracking_rejections (id, received_at, topic, payload, code, detail)
select * from unnest($1, $2, $3, $4, $5, $6)
on conflict (id) do nothing"""
REJECT_TYPES = (
    binary.UUID_ARRAY,
    binary.TIMESTAMPTZ_ARRAY,
    binary.TEXT_ARRAY,
    binary.BYTEA_ARRAY,
    binary.TEXT_ARRAY,
    binary.TEXT_ARRAY,
)

TRIM_OLD = f"""
delete from tracking_rejections where id in (
  select id from tracking_rejections where received_at < now() - interval '{KEEP_REJECTIONS}' limit {TRIM_ROWS})"""
TRIM_MANY = f"""
delete from tracking_rejections where id in (
  select id from tracking_rejections order by received_at desc offset {MOST_REJECTIONS} limit {TRIM_ROWS})"""

NOTE_PARTITIONS = "select tracking_note_partitions(1000)"
"""Some 20 ms: from one participant to the next by an index, in one partition or in all."""


@attrs.define(eq=False)
class PostgresWriter:
    """All calls raise StoreUnavailable, StoreMisconfigured or RowRefused, within `deadline_s` seconds.

    `store` raises NoPartition, which says for which fixes, in twice the time.
    """

    address: PostgresAddress
    _connection: PostgresConnection | None = None  # None until the first call and after trouble
    _recent: Recent = attrs.field(factory=Recent)
    _lost: int = 0
    _turn: trio.Lock = attrs.field(factory=trio.Lock)  # trimming goes on beside storing, on one connection

    async def aclose(self) -> None:
        """Close the connection; never waits."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        await trio.lowlevel.checkpoint()

    async def ping(self, deadline_s: float = PING_S) -> None:
        """Connect and prepare where that is needed (long, while an index is built), and ask for an answer."""
        async with self._call(deadline_s) as connection:
            await connection.query("SELECT 1")
            self._recent.answered(trio.current_time())

    async def store(self, fixes: Sequence[Fix], deadline_s: float = CALL_S) -> int:
        """Insert fixes in one transaction, in any order and with repetitions. How many were not there yet."""
        if not fixes:
            return 0
        # Of repetitions the first, which arrived first and is live. Sorted: two writers with the same rows in different
        # orders deadlock.
        by_id = {fix.id: fix for fix in reversed(fixes)}
        rows = [by_id[each] for each in sorted(by_id)]
        values = (
            binary.uuid_array([fix.id for fix in rows]),
            binary.text_array([fix.participant_id for fix in rows]),
            binary.text_array([fix.race_id for fix in rows]),
            binary.int4_array([fix.lat_e7 for fix in rows]),
            binary.int4_array([fix.lon_e7 for fix in rows]),
            binary.timestamptz_array([fix.timestamp_ms for fix in rows]),
            binary.timestamptz_array([fix.arrived_ms for fix in rows]),
            binary.int2_array([fix.status for fix in rows]),
        )
        try:
            new = await self._insert(INSERT, values, INSERT_TYPES, deadline_s)
            self._recent.add(RecentBatch(values, len(rows), trio.current_time(), self._connection))
            return new
        except NoPartition as missing:
            async with self._call(deadline_s) as connection:
                raise await partitions.missing_for(connection, [fix.id for fix in rows], str(missing)) from None

    def lost(self) -> int:
        """Rows that had been confirmed, were not there after a fail-over or a crash, and were written again: since this
        was asked the last time."""
        lost, self._lost = self._lost, 0
        return lost

    async def partitions(self, deadline_s: float = PING_S) -> Partitions:
        """Those that there are now."""
        async with self._call(deadline_s) as connection:
            return await partitions.present(connection)

    async def reject(self, rejections: Sequence[Rejection], deadline_s: float = CALL_S) -> int:
        """Insert rejections that are not there yet; returns how many those were."""
        if not rejections:
            return 0
        rows = sorted({row.id: row for row in rejections}.values(), key=lambda row: row.id)
        values = (
            binary.uuid_array([row.id for row in rows]),
            binary.timestamptz_array([row.received_ms for row in rows]),
            binary.bytes_array(binary.TEXT, [storable(row.topic) for row in rows]),
            binary.bytes_array(binary.BYTEA, [row.payload for row in rows]),
            binary.bytes_array(binary.TEXT, [storable(row.code) for row in rows]),
            binary.bytes_array(binary.TEXT, [storable(row.detail) for row in rows]),
        )
        return await self._insert(REJECT, values, REJECT_TYPES, deadline_s)

    async def trim_rejections(self, deadline_s: float = CALL_S) -> None:
        """Delete rejections older than 30 days and the oldest beyond a million, a few at a time."""
        for sql in (TRIM_OLD, TRIM_MANY):
            deleted: int | None = TRIM_ROWS
            while deleted == TRIM_ROWS:
                async with self._call(deadline_s) as connection:
                    deleted = (await connection.query(sql)).command_tuples

    async def note_partitions(self, deadline_s: float = CALL_S) -> bool:
        """Do a little for the list of races, where partitions came or went; whether there is more to do."""
        async with self._call(deadline_s) as connection:
            return (await connection.query(NOTE_PARTITIONS)).get_value(0, 0) == b"\x01"

    async def make_partitions(self) -> list[str]:
        """Those that are to be there ahead of their time, on a connection of its own: no row waits meanwhile."""
        async with self._call(PING_S) as connection:
            there = await attaching.layout(connection)
        if there is None or there.width is None or not there.wanted(there.width):
            return []
        connection = await connect(self.address, PARTITIONS, CONNECT_S, check_session)
        made: list[str] = []
        try:
            await attaching.make(connection, made)
        finally:
            connection.close()
        return made

    async def _insert(self, insert: str, values: Sequence[bytes], types: Sequence[int], deadline_s: float) -> int:
        """How many rows were new; all of them are durable.

        What is there already may be on this server alone: a wait for a synchronous standby is cut short by a restart
        or by pg_cancel_backend, and another writer may not have waited at all. A statement that inserts nothing is
        committed without any wait, so it is run again with a mark. Both in one: between two statements a pooler or a
        fail-over may take us to a server that has neither. Where one row was new, the commit waited.
        """
        async with self._call(deadline_s) as connection:
            result = await connection.query(insert, values, types)
            if not result.command_tuples:
                result = await connection.query(insert.replace("\non conflict", MARKED), values, types)
        return result.command_tuples or 0

    @asynccontextmanager
    async def _call(self, deadline_s: float) -> AsyncIterator[PostgresConnection]:
        async with self._turn:
            connection = await self._connected()
            with within(deadline_s):
                try:
                    async with _is_the_table_to_blame(connection):
                        yield connection
                except NoPartition:
                    raise
                except StoreMisconfigured:
                    # The next call looks at the whole set-up again, and finds it mended or says what is wrong.
                    await self.aclose()
                    raise

    async def _connected(self) -> PostgresConnection:
        if self._connection is not None and self._connection.usable:
            return self._connection
        await self.aclose()
        connection = await connect(self.address, APPLICATION, CONNECT_S, _check_server)
        with connection.closed_on_trouble():
            await migration.apply(connection)
            with within(CALL_S):
                await check_table(connection)
            await self._write_again(connection)
        self._connection = connection
        log.info("connected", host=connection.where, database=self.address.database, pid=connection.backend_pid)
        return connection

    async def _write_again(self, connection: PostgresConnection) -> None:
        """What was confirmed last, in case that this server does not have it: a little later nobody could."""
        before = self._lost
        try:
            for batch in self._recent.confirmed_elsewhere(connection):
                try:
                    with within(CALL_S):
                        self._lost += (await connection.query(INSERT, batch.values, INSERT_TYPES)).command_tuples or 0
                except (RowRefused, StoreMisconfigured) as refusal:
                    log.warning("rows that were confirmed are refused now", rows=batch.rows, why=str(refusal))
                batch.session = connection
        finally:
            if self._lost > before:
                log.error("postgresql had lost rows that it had confirmed: written again", rows=self._lost - before)


async def _check_server(connection: PostgresConnection) -> None:
    if not await check_session(connection):
        log.warning("synchronous_commit is off: a crash of PostgreSQL can lose fixes that were acknowledged")
    await check_standby(connection)


@asynccontextmanager
async def _is_the_table_to_blame(connection: PostgresConnection) -> AsyncIterator[None]:
    """A column that a DBA made narrower refuses some rows and takes others: that is no fault of the rows."""
    try:
        yield
    except RowRefused:
        await check_table(connection)
        raise


def storable(text: str) -> bytes:
    """UTF-8 that PostgreSQL takes: it refuses NUL and surrogates, which become backslash escapes."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")
