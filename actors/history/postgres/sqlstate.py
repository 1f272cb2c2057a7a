"""What an error of PostgreSQL means for us: try again, mend the set-up, or the data is at fault.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from actors.core.addresses import PostgresAddress
from actors.core.errors import NoPartition, RowRefused, StoreMisconfigured, StoreUnavailable

# 08 connection, 40 rollback, 53 resources, 58 and XX the machine, 57 shutdown or cancel, 55 in use or locked,
# 25006 read-only (a stand-by), 25P03 and 25P04 a transaction took too long.
RETRY = ("08", "40", "53", "58", "XX", "57", "55", "25006", "25P03", "25P04")
# 22 data, 23 constraint, 44 check option of a view, P0001 what somebody's trigger raised.
DATA = ("22", "23", "44", "P0001")
CHECK_VIOLATION = "23514"

# A refused connection carries no SQLSTATE in libpq, only the server's words.
PASSING = (
    "starting up", "shutting down", "recovery", "accepting connections", "too many", "connection slots", "terminat",
    # PgBouncer's, while its PostgreSQL is away, or its operator has closed it.
    "query_wait_timeout", "login_timeout", "connect timeout", "login has been failing", "cannot connect", "DNS lookup",
    "conn crashed", "no more connections", "is disabled",
)  # fmt: skip
SET_UP = ("SSL was required", "certificate", "no password supplied", "sslmode")

# PgBouncer's answer to BEGIN. Its SQLSTATE is that of all that it says: 08P01, protocol violation.
STATEMENT_POOLING = "statement pooling"


def statement_error(result: PGresult) -> StoreUnavailable | StoreMisconfigured | RowRefused:
    """The exception for a failed statement."""
    code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    primary = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode(errors="replace")
    text = f"{primary.strip()} (SQLSTATE {code or 'none'})"
    if STATEMENT_POOLING in text:
        return _no_transactions(text)
    if not code or code.startswith(RETRY):
        return StoreUnavailable(text)
    if _no_partition(code, result):
        return NoPartition(text)
    if code.startswith(DATA):
        return RowRefused(text)
    return StoreMisconfigured(text)


def _no_partition(code: str, result: PGresult) -> bool:
    """A row for which nobody made a partition: of a check constraint, the same code, the name would be told."""
    table, constraint = (
        result.error_field(field) for field in (pq.DiagnosticField.TABLE_NAME, pq.DiagnosticField.CONSTRAINT_NAME)
    )
    return code == CHECK_VIOLATION and bool(table) and not constraint


def standby_was_not_waited_for(notice: PGresult) -> bool:
    """The one warning that takes a commit back: it is local, and its wait for a synchronous standby was cut short.

    By the function that says so: the words depend on lc_messages, and the code, 01000, is that of any RAISE WARNING.
    """
    return notice.error_field(pq.DiagnosticField.SOURCE_FUNCTION) == b"SyncRepWaitForLSN"


def lost_error(text: str) -> StoreUnavailable | StoreMisconfigured:
    """The exception for a connection that ended in mid-call; the first line is what the server had to say of it."""
    words = text.removeprefix("consuming input failed: ").strip().partition("\n")[0]
    if STATEMENT_POOLING in words:
        return _no_transactions(words)
    return StoreUnavailable(f"connection to PostgreSQL lost: {words}")


def _no_transactions(words: str) -> StoreMisconfigured:
    return StoreMisconfigured(f"{words}: PgBouncer's pool_mode must be session or transaction")


def connect_error(pgconn: PGconn, address: PostgresAddress) -> StoreUnavailable | StoreMisconfigured:
    """The exception for a connection that did not come about. libpq's text never holds the password."""
    text = " ".join(pgconn.get_error_message("utf-8").split())
    refused = "FATAL:" in text and not any(words in text for words in PASSING)
    if refused or any(words in text for words in SET_UP):
        return StoreMisconfigured(f"{text}{_advice(text, address)}")
    return StoreUnavailable(text)


def _advice(text: str, address: PostgresAddress) -> str:
    if f'database "{address.database}" does not exist' in text:
        return (
            f"; create it: createdb -h {address.host} -p {address.port} -U {address.user} -E UTF8 -T template0"
            f" {address.database}"
        )
    if "password" in text:
        return "; see [postgres] username and password"
    return ""
