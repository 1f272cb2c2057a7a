"""The lock of the node that reads, among those with one client_id: an advisory lock, held by a connection of its own.

PostgreSQL frees it when that session ends: at once when the node is killed, 4 s after its cable was pulled, 5 s after
it froze. It is not copied to a stand-by of PostgreSQL: after a fail-over somebody else may hold it as well.
A pooler would give several nodes one session, so it must not be between.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import msgspec

from actors.core.addresses import PostgresAddress
from actors.core.errors import RowRefused, StoreMisconfigured, StoreUnavailable
from actors.core.host_list import host_list
from actors.history.postgres import binary
from actors.history.postgres.libpq import PostgresConnection, connect, within
from actors.history.postgres.table_check import check_session

APPLICATION = "race-tracking ingest"
CONNECT_S = 3.0
ANSWER_S = 2.0
"""Less than PostgreSQL takes to give up on us: who has lost the lock must not be the last to know."""

LEASE = """
set tcp_keepalives_idle = 2; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 2;
set tcp_user_timeout = 4000; set idle_session_timeout = 5000"""
"""Seconds, but the last two, which are ms. The last one ends the session of a node that is frozen, not gone."""

DIRECT = "[postgres] lock_host must lead to PostgreSQL itself, without a pooler: there the lock would be several nodes'"

HELD = """
select exists (select from pg_locks l join pg_database d on d.oid = l.database and d.datname = current_database()
  where l.locktype = 'advisory' and l.granted and l.classid = {high} and l.objid = {low} and l.objsubid = 1)"""
"""As pg_locks shows a lock of one bigint: https://www.postgresql.org/docs/current/view-pg-locks.html"""

SESSION = "select to_json(topics)::text, granted from tracking_sessions where client_id = $1"
REMEMBER = """
insert into tracking_sessions (client_id, topics, granted, node_id, written_at) values ($1, $2, $3, $4, now())
on conflict (client_id) do update set topics = excluded.topics, granted = excluded.granted,
  node_id = excluded.node_id, written_at = excluded.written_at"""


class PostgresLock:
    """All calls raise StoreUnavailable or StoreMisconfigured, within a few seconds; then the lock is lost."""

    def __init__(self, address: PostgresAddress, client_id: str, node_id: str) -> None:
        self._address = address
        self._client_id = client_id
        self._node_id = node_id
        self._connection: PostgresConnection | None = None
        self._held = False

    @property
    def connected(self) -> bool:
        """There is a session, as far as is known."""
        return self._connection is not None

    def close(self) -> None:
        """End the session, which frees the lock. Never blocks."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._held = None, False

    async def connect(self) -> None:
        """Open a session with a PostgreSQL that can be written: on a stand-by of it everybody would get the lock."""
        self.close()
        connection = await connect(self._address, APPLICATION, CONNECT_S, check_session)
        with connection.closed_on_trouble(), within(ANSWER_S):
            seen = await connection.query("select pg_backend_pid()::bigint")
            if binary.read_int8(seen.get_value(0, 0) or b"") != connection.backend_pid:
                raise StoreMisconfigured(DIRECT)
            await connection.script(LEASE)
        self._connection = connection

    async def ask(self, take: bool) -> bool | None:
        """True: it is ours, as long as this session lasts. False: it is somebody else's. None: free, not to `take`."""
        key = lock_key(self._client_id)
        async with self._call() as connection:
            if not self._held and take:
                self._held = await _is_true(connection, f"select pg_try_advisory_lock({key})")
                return self._held
            held = await _is_true(connection, HELD.format(high=key >> 32 & 0xFFFFFFFF, low=key & 0xFFFFFFFF))
        return True if self._held else False if held else None

    async def session(self) -> tuple[frozenset[str], bool] | None:
        """What the broker's session may hold, and whether some of it was granted; None: nobody has written it yet."""
        async with self._call() as connection:
            seen = await connection.query(SESSION, [self._client_id.encode()], [binary.TEXT])
            if not seen.ntuples:
                return None
            topics = msgspec.json.decode(seen.get_value(0, 0) or b"", type=list[str])
            return frozenset(topics), seen.get_value(0, 1) == b"\x01"

    async def remember(self, topics: frozenset[str], granted: bool) -> None:
        """Write that, for whoever holds the lock next."""
        values = (
            self._client_id.encode(),
            binary.text_array(sorted(topics)),
            b"\x01" if granted else b"\x00",
            self._node_id.encode(),
        )
        types = (binary.TEXT, binary.TEXT_ARRAY, binary.BOOL, binary.TEXT)
        # It must not wait for a synchronous standby that is away: the lock would be given up for it.
        async with self._call() as connection, connection.transaction("set local synchronous_commit = local"):
            await connection.query(REMEMBER, values, types)

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[PostgresConnection]:
        if self._connection is None:
            raise StoreUnavailable("not connected")
        done = False
        try:
            with within(ANSWER_S):
                yield self._connection
            done = True
        except RowRefused as refused:
            raise StoreMisconfigured(str(refused)) from None
        finally:
            if not done:
                self.close()


async def _is_true(connection: PostgresConnection, sql: str) -> bool:
    return (await connection.query(sql)).get_value(0, 0) == b"\x01"


def lock_address(address: PostgresAddress, lock_host: str) -> PostgresAddress:
    """Where the lock is: `[postgres] lock_host`, which may be a list as well, or as everything else."""
    if not lock_host:
        return address
    if lock_host.startswith("/"):
        return attrs.evolve(address, host=lock_host, others=())
    first, *others = host_list(lock_host, address.port)
    return attrs.evolve(address, host=first.host, port=first.port, others=tuple(others))


def lock_key(client_id: str) -> int:
    """The advisory lock of this client_id, as a bigint. Such locks are a database's own."""
    digest = hashlib.blake2b(b"race-tracking ingest\0" + client_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
