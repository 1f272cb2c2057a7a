"""history/postgres/sqlstate.py: what PostgreSQL and libpq say when a connection does not come about."""

from __future__ import annotations

from typing import cast

import attrs
import pytest
from psycopg.pq.abc import PGconn

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.postgres.sqlstate import connect_error, lost_error
from actors.settings.load import Secret

ADDRESS = PostgresAddress("db", 5432, "tracker", Secret("secret"), "tracking", "prefer")
TO = 'connection to server at "db" (10.0.0.1), port 5432 failed: '

PASSING = [
    "FATAL:  the database system is starting up",
    "FATAL:  the database system is shutting down",
    "FATAL:  the database system is in recovery mode",
    "FATAL:  the database system is not yet accepting connections DETAIL:  Consistent state has not been reached.",
    'FATAL:  database "tracking" is not currently accepting connections',
    "FATAL:  sorry, too many clients already",
    'FATAL:  too many connections for role "tracker"',
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    "FATAL:  terminating connection due to administrator command",
    "Connection refused Is the server running on that host and accepting TCP/IP connections?",
    "server closed the connection unexpectedly",
    "timeout expired",
    # PgBouncer's, whose PostgreSQL is away, or which is full or closed by its operator.
    "FATAL:  query_wait_timeout",
    "FATAL:  client_login_timeout (server down)",
    "FATAL:  server login has been failing, try again later (server_login_retry)",
    "FATAL:  server login has been failing, cached error: connect failed (server_login_retry)",
    "FATAL:  pgbouncer cannot connect to server",
    "FATAL:  server DNS lookup failed",
    "FATAL:  connect timeout",
    "FATAL:  server conn crashed?",
    "FATAL:  no more connections allowed (max_client_conn)",
    'FATAL:  database "tracking" is disabled',
]
SET_UP = [
    'FATAL:  password authentication failed for user "tracker"',
    'FATAL:  role "tracker" does not exist',
    'FATAL:  role "tracker" is not permitted to log in',
    'FATAL:  database "tracking" does not exist',
    'FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "tracker", database "tracking", no encryption',
    'FATAL:  permission denied for database "tracking"',
    "fe_sendauth: no password supplied",
    "server does not support SSL, but SSL was required",
    "SSL error: certificate verify failed",
    'root certificate file "/root/.postgresql/root.crt" does not exist',
    'weak sslmode "prefer" may not be used with sslrootcert=system',
    "FATAL:  unsupported startup parameter: options",
    "FATAL:  no such database: tracking",
    "FATAL:  SASL authentication failed",
]


@attrs.frozen
class Failed:
    """A libpq connection that did not come about."""

    text: str

    def get_error_message(self, encoding: str) -> str:
        return f"{TO}{self.text}\n"


@pytest.mark.parametrize(
    ("text", "kind"),
    [*((text, StoreUnavailable) for text in PASSING), *((text, StoreMisconfigured) for text in SET_UP)],
)
def test_what_a_refused_connection_means(text: str, kind: type[Exception]) -> None:
    error = connect_error(cast(PGconn, Failed(text)), ADDRESS)
    assert type(error) is kind
    assert str(error).startswith(TO + " ".join(text.split()))


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("server closed the connection unexpectedly\n\tThis probably means ...", StoreUnavailable, "unexpectedly"),
        (
            "consuming input failed: FATAL:  terminating connection due to idle-session timeout\nserver closed ...",
            StoreUnavailable,
            "idle-session timeout",
        ),
        ("consuming input failed: query_wait_timeout\nserver closed ...", StoreUnavailable, "query_wait_timeout"),
        (
            "consuming input failed: transaction blocks not allowed in statement pooling mode\nserver closed ...",
            StoreMisconfigured,
            "transaction blocks not allowed in statement pooling mode: PgBouncer's pool_mode must be session or"
            " transaction",
        ),
    ],
)
def test_what_a_lost_connection_means(text: str, kind: type[Exception], says: str) -> None:
    error = lost_error(text)
    assert type(error) is kind
    assert str(error).endswith(says)
