"""One connection to PostgreSQL on trio, straight on libpq (`psycopg.pq`).

No thread, so a deadline is an ordinary cancel scope: whatever ends a call early (deadline, cancellation, crash) closes
the connection, because nobody knows how far the server got. That unblocks from a stopped server too, where server-side
timeouts and TCP keepalive did not fire. Protocol: https://www.postgresql.org/docs/current/libpq-async.html
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import trio
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import Buffer, PGconn, PGresult

from actors.drivers.addresses import PostgresAddress
from actors.drivers.sqlstate import connect_error, standby_was_not_waited_for, statement_error
from actors.errors import StoreUnavailable

GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Deadline in seconds around calls of this module; raises StoreUnavailable when it passes."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise StoreUnavailable(f"PostgreSQL did not answer within {seconds:g} s") from None


class Connection:
    """One session, used by one task at a time. Made by `connect`, which says what is raised."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self._open = True
        self._cut_short = False  # what was committed may be on this server alone
        pgconn.notice_handler = self._noticed

    @property
    def usable(self) -> bool:
        """False once closed here or lost on the way; a connection lost while idle is noticed by the next call."""
        return self._open and self._pgconn.status == pq.ConnStatus.OK

    @property
    def backend_pid(self) -> int:
        """Process id of the server's side."""
        return self._pgconn.backend_pid

    async def query(self, sql: str, values: Sequence[Buffer | None] = (), types: Sequence[int] = ()) -> PGresult:
        """One statement; parameters `$1`... and result columns in binary form. `types` are the OIDs of `values`.

        Raises StoreUnavailable, StoreMisconfigured or RowRefused; only after the first is the connection closed.
        """
        with self._closing_on_trouble():
            self._pgconn.send_query_params(
                sql.encode(), values, types, (pq.Format.BINARY,) * len(values), pq.Format.BINARY
            )
            results = await self._results()
        return self._checked(results)

    async def script(self, sql: str) -> None:
        """Several statements without parameters, one transaction where they say nothing else. Raises as `query`."""
        with self._closing_on_trouble():
            self._pgconn.send_query(sql.encode())
            results = await self._results()
        self._checked(results)

    def close(self) -> None:
        """Never blocks: the socket is non-blocking, so the good-bye is sent if there is room for it."""
        if self._open:
            self._open = False
            self._pgconn.finish()

    async def _results(self) -> list[PGresult]:
        # Only writability is waited for: the server reads a whole statement before it has anything long to say.
        while self._pgconn.flush():
            await trio.lowlevel.wait_writable(self._pgconn.socket)
        results: list[PGresult] = []
        while True:
            while self._pgconn.is_busy():
                await trio.lowlevel.wait_readable(self._pgconn.socket)
                self._pgconn.consume_input()
            result = self._pgconn.get_result()
            if result is None:
                return results
            results.append(result)

    def _checked(self, results: list[PGresult]) -> PGresult:
        for result in results:
            if result.status not in GOOD:
                error = statement_error(result)
                if isinstance(error, StoreUnavailable):
                    self.close()
                raise error
        if self._cut_short:
            self.close()
            raise StoreUnavailable("the wait for a synchronous standby was cut short: it may lack what was committed")
        return results[-1]

    def _noticed(self, notice: PGresult) -> None:
        self._cut_short |= standby_was_not_waited_for(notice)

    @contextmanager
    def _closing_on_trouble(self) -> Iterator[None]:
        try:
            yield
        except psycopg.OperationalError as error:
            self.close()
            raise StoreUnavailable(f"connection to PostgreSQL lost: {str(error).strip()}") from None
        except BaseException:
            self.close()
            raise


async def connect(address: PostgresAddress, application_name: str, deadline_s: float) -> Connection:
    """Open a session; each address that the host's name stands for gets its share of the deadline (seconds).

    Raises StoreUnavailable (not there, starting, full, too slow) or StoreMisconfigured (login, database, TLS).
    """
    hosts = await _resolve(address, deadline_s)
    for nth, hostaddr in enumerate(hosts, start=1):
        try:
            with within(deadline_s / len(hosts)):
                return await _connect(address, hostaddr, application_name)
        except StoreUnavailable:
            if nth == len(hosts):
                raise
    raise StoreUnavailable(f"the name {address.host!r} stands for no address")


async def _connect(address: PostgresAddress, hostaddr: str | None, application_name: str) -> Connection:
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
        return Connection(pgconn)
    finally:
        if not connected:
            pgconn.finish()


async def _resolve(address: PostgresAddress, deadline_s: float) -> list[str | None]:
    """Addresses to try, in order; None where libpq needs none. libpq itself would block while it resolves a name."""
    if address.host.startswith(("/", "@")):
        return [None]
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        pass
    else:
        return [None]
    try:
        with within(deadline_s):
            found = await trio.socket.getaddrinfo(address.host, address.port, type=trio.socket.SOCK_STREAM)
    except OSError as error:
        raise StoreUnavailable(f"cannot resolve the name {address.host!r}: {error.strerror}") from None
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
