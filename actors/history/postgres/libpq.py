"""One connection to PostgreSQL on trio, straight on libpq (`psycopg.pq`).

No thread, so a deadline is an ordinary cancel scope: whatever ends a call early (deadline, cancellation, crash) closes
the connection, because nobody knows how far the server got. That unblocks from a stopped server too, where server-side
timeouts and TCP keepalive did not fire. Protocol: https://www.postgresql.org/docs/current/libpq-async.html
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TypeAlias

import psycopg
import trio
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import Buffer, PGconn, PGresult

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreUnavailable
from actors.history.postgres.addresses import addresses_of
from actors.history.postgres.begin import BEGIN, BEGIN_SINCE_17
from actors.history.postgres.search import search
from actors.history.postgres.sqlstate import connect_error, lost_error, standby_was_not_waited_for, statement_error

FRAME_S = 10.0  # for a BEGIN, and for a COMMIT

GOOD = (
    pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.TUPLES_CHUNK, pq.ExecStatus.EMPTY_QUERY,
    pq.ExecStatus.PIPELINE_SYNC,
)  # fmt: skip


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Deadline in seconds around calls of this module; raises StoreUnavailable when it passes."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise StoreUnavailable(f"PostgreSQL did not answer within {seconds:g} s") from None


class PostgresConnection:
    """One session, used by one task at a time. Made by `connect`, which says what is raised."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self.opened_s = trio.current_time()
        self._open = True
        self._cut_short = False  # what was committed may be on this server alone
        pgconn.notice_handler = self._noticed
        self._begin = (*BEGIN, BEGIN_SINCE_17) if pgconn.server_version >= 170_000 else BEGIN

    @property
    def usable(self) -> bool:
        """False once closed here or lost on the way, also while it was idle. Not to be asked in mid-call."""
        with suppress(psycopg.OperationalError):
            for _ in range(2):  # the second look sees the end of the connection behind the server's good-bye
                if self._open:
                    self._pgconn.consume_input()
        return self._open and self._pgconn.status == pq.ConnStatus.OK

    @property
    def takes_writes(self) -> bool:
        """No standby: one that is promoted tells with its next answer."""
        return self._pgconn.parameter_status(b"in_hot_standby") != b"on"

    @property
    def where(self) -> str:
        """The server's host and port, as they were named."""
        return f"{self._pgconn.host.decode()}:{self._pgconn.port.decode()}"

    @property
    def backend_pid(self) -> int:
        """Process id of the server's side; a pooler makes one up."""
        return self._pgconn.backend_pid

    @property
    def server_version(self) -> int:
        """150018 is 15.18."""
        return self._pgconn.server_version

    async def query(self, sql: str, values: Sequence[Buffer | None] = (), types: Sequence[int] = ()) -> PGresult:
        """One statement, a transaction of its own outside of `transaction`; `types` are the OIDs of `values`.

        Parameters `$1`... and result columns are in binary form.
        Raises StoreUnavailable, StoreMisconfigured or RowRefused; only after the first is the connection closed.
        """
        with self._closing_on_trouble():
            alone = self._pgconn.transaction_status == pq.TransactionStatus.IDLE
            ahead, behind = (self._begin, ("commit",)) if alone else ((), ())
            self._pgconn.enter_pipeline_mode()
            for each in ahead:
                self._pgconn.send_query_params(each.encode(), None)
            self._pgconn.send_query_params(
                sql.encode(), values, types, (pq.Format.BINARY,) * len(values), pq.Format.BINARY
            )
            for each in behind:
                self._pgconn.send_query_params(each.encode(), None)
            self._pgconn.pipeline_sync()
            results = await self._results(pq.ExecStatus.PIPELINE_SYNC)
            self._pgconn.exit_pipeline_mode()
            if alone and self._pgconn.transaction_status == pq.TransactionStatus.INERROR:
                self._pgconn.send_query(b"rollback")
                await self._results(None)
        self._check(results)
        return results[len(ahead)]

    async def rows(
        self, sql: str, values: Sequence[Buffer], types: Sequence[int], most: int
    ) -> AsyncGenerator[PGresult, None]:
        """The rows of one statement while the server makes them, up to `most` in a result; after `begin` only.

        They come no faster than they are asked for: the server waits. Raises as `query`; the connection is closed when
        the caller leaves before the last one.
        """
        with self._closing_on_trouble():
            self._pgconn.send_query_params(
                sql.encode(), values, types, (pq.Format.BINARY,) * len(values), pq.Format.BINARY
            )
            self._pgconn.set_chunked_rows_mode(most)
            await self._send()
            while (result := await self._result()) is not None:
                self._check([result])
                if result.ntuples:
                    yield result

    async def script(self, sql: str) -> None:
        """Several statements without parameters, one transaction where they say nothing else. Raises as `query`."""
        with self._closing_on_trouble():
            self._pgconn.send_query(sql.encode())
            results = await self._results(None)
        self._check(results)

    @asynccontextmanager
    async def transaction(self, *settings: str) -> AsyncIterator[None]:
        """The block is one transaction, with more SET LOCAL statements; the connection is closed when it fails."""
        with self.closed_on_trouble():
            await self.begin(*settings)
            yield
            await self.commit()

    async def begin(self, *settings: str) -> None:
        """Begin a transaction, with more SET LOCAL statements."""
        with within(FRAME_S):
            await self.script("; ".join((*self._begin, *settings)))

    async def commit(self) -> None:
        """End the transaction that `begin` began."""
        with within(FRAME_S):
            await self.script("commit")

    @contextmanager
    def closed_on_trouble(self) -> Iterator[None]:
        """Whatever ends the block early closes the connection."""
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self.close()

    def close(self) -> None:
        """Never blocks: the socket is non-blocking, so the good-bye is sent if there is room for it."""
        if self._open:
            self._open = False
            self._pgconn.finish()

    async def _results(self, end: pq.ExecStatus | None) -> list[PGresult]:
        """Up to the one with status `end`, or to where there is no more."""
        results: list[PGresult] = []
        try:
            await self._send()
            while True:
                result = await self._result()
                if result is not None:
                    results.append(result)
                if end == (None if result is None else result.status):
                    return results
                if self._pgconn.status == pq.ConnStatus.BAD:
                    raise psycopg.OperationalError(self._pgconn.get_error_message())
        except psycopg.OperationalError:
            self._check(results)  # the server's last words say more than that the connection has ended
            raise

    async def _send(self) -> None:
        # Only writability is waited for: the server reads a whole statement before it has anything long to say.
        while self._pgconn.flush():
            await trio.lowlevel.wait_writable(self._pgconn.socket)

    async def _result(self) -> PGresult | None:
        while self._pgconn.is_busy():
            await trio.lowlevel.wait_readable(self._pgconn.socket)
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    def _check(self, results: list[PGresult]) -> None:
        for result in results:
            if result.status not in GOOD:
                error = statement_error(result)
                if isinstance(error, StoreUnavailable):
                    self.close()
                raise error
        if self._cut_short:
            self.close()
            raise StoreUnavailable("the wait for a synchronous standby was cut short: it may lack what was committed")

    def _noticed(self, notice: PGresult) -> None:
        self._cut_short |= standby_was_not_waited_for(notice)

    @contextmanager
    def _closing_on_trouble(self) -> Iterator[None]:
        try:
            with self.closed_on_trouble():
                yield
        except psycopg.OperationalError as error:
            raise lost_error(str(error)) from None


Accept: TypeAlias = Callable[[PostgresConnection], Awaitable[object]]


async def connect(
    address: PostgresAddress, application_name: str, deadline_s: float, accept: Accept | None = None
) -> PostgresConnection:
    """Open a session with the first of the servers, and of the addresses that its name stands for, that will do.

    `accept` raises when one will not do (a standby, for who wants to write); without it one that takes writes comes
    first. Raises StoreUnavailable (not there, starting, full, too slow) or StoreMisconfigured (login, database, TLS: of
    every server), and what `accept` raises of these, with the words of all.
    """
    attempts = {
        f"{each.host}:{each.port}": partial(_connect_to, each, application_name, accept) for each in address.servers
    }
    return await search(attempts, deadline_s, all)


async def _connect_to(server: PostgresAddress, application_name: str, accept: Accept | None) -> PostgresConnection:
    attempts = {
        hostaddr or server.host: partial(_connect, server, hostaddr, application_name, accept)
        for hostaddr in await addresses_of(server)
    }
    return await search(attempts, math.inf, any)


async def _connect(
    address: PostgresAddress, hostaddr: str | None, application_name: str, accept: Accept | None
) -> PostgresConnection:
    conninfo = make_conninfo(
        host=address.host,
        hostaddr=hostaddr,
        port=address.port,
        user=address.user,
        password=address.password.reveal() or None,
        dbname=address.database,
        sslmode=address.sslmode,
        application_name=application_name,
        client_encoding="UTF8",
        gssencmode="disable",
    )
    pgconn = pq.PGconn.connect_start(conninfo.encode())
    connected = False
    try:
        state: int = pq.PollingStatus.WRITING  # as if polled already: libpq-connect.html, PQconnectStart
        while state != pq.PollingStatus.OK:
            if pgconn.status == pq.ConnStatus.BAD or state == pq.PollingStatus.FAILED:
                raise connect_error(pgconn, address)
            if state == pq.PollingStatus.READING:
                await trio.lowlevel.wait_readable(pgconn.socket)
            else:
                await trio.lowlevel.wait_writable(pgconn.socket)
            state = pgconn.connect_poll()
        pgconn.nonblocking = 1
        connected = True
    finally:
        if not connected:
            pgconn.finish()
    connection = PostgresConnection(pgconn)
    if accept is not None:
        with connection.closed_on_trouble():
            await accept(connection)
    return connection
