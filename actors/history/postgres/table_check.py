"""Is the `tracking_positions` that this database has one that we can write? Asked at every connect.

A database in LATIN1 or a DBA's new column that must be filled would else make rejections of fixes that are right.
"""

from __future__ import annotations

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.core.fix import STATUSES
from actors.history.postgres.libpq import PostgresConnection

# Column -> types that hold our values without loss, as format_type names them.
NAMES = ("character varying(50)", "character varying", "text")
NUMBERS = ("numeric(10,7)", "numeric")
COLUMNS = {
    "id": ("uuid",),
    "participant_id": NAMES,
    "race_id": NAMES,
    "latitude": NUMBERS,
    "longitude": NUMBERS,
    "client_timestamp": ("timestamp with time zone",),
    "server_received_at": ("timestamp with time zone",),
    "status": ("participant_status",),
}

OLDEST = 140_000  # for `create or replace trigger`

SESSION = """
select current_setting('server_encoding'), current_setting('transaction_read_only'),
  current_setting('synchronous_commit'), current_database()::text, current_setting('server_version_num')"""

TABLE = """
select attname::text, format_type(atttypid, nullif(atttypmod, -1)),
  (attnotnull and not atthasdef and attidentity = '' and attgenerated = '')::text
from pg_attribute where attrelid = to_regclass('tracking_positions') and attnum > 0 and not attisdropped"""

UNIQUE_ID = """
select 1 from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
where i.indrelid = to_regclass('tracking_positions') and i.indisunique and i.indisvalid and i.indnkeyatts = 1
  and i.indpred is null and a.attname = 'id'"""

LABELS = "select enumlabel::text from pg_enum where enumtypid = to_regtype('participant_status')"


async def check_session(connection: PostgresConnection) -> bool:
    """True when a commit is durable once it is answered, False when `synchronous_commit` is off.

    Raises StoreMisconfigured (server older than 14, encoding other than UTF8) or StoreUnavailable (read-only: a
    stand-by, or being mended).
    """
    async with connection.transaction():
        ((encoding, read_only, synchronous, database, version),) = await texts(connection, SESSION)
    if int(version) < OLDEST:
        raise StoreMisconfigured(
            f"PostgreSQL {int(version) // 10_000} is too old: {OLDEST // 10_000} or newer is needed"
        )
    if encoding != "UTF8":
        raise StoreMisconfigured(
            f"database {database!r} has the encoding {encoding}, which cannot hold every name: it must be UTF8"
        )
    if read_only == "on":
        raise StoreUnavailable(f"database {database!r} is read-only")
    return synchronous != "off"


async def check_table(connection: PostgresConnection) -> None:
    """Raises StoreMisconfigured with everything that is wrong with the table."""
    async with connection.transaction():  # one session, also behind a pooler
        columns, unique, enum = [await texts(connection, sql) for sql in (TABLE, UNIQUE_ID, LABELS)]
    found = {name: (kind, required == "true") for name, kind, required in columns}
    problems = []
    for name, kinds in COLUMNS.items():
        if name not in found:
            problems.append(f"column {name} is missing")
        elif found[name][0].rpartition(".")[2] not in kinds:
            problems.append(f"column {name} is {found[name][0]}, not {kinds[0]}")
    problems += [
        f"column {name} is not ours, NOT NULL and without a default"
        for name, (_, required) in found.items()
        if required and name not in COLUMNS
    ]
    if not unique:
        problems.append("id has no primary key or unique index")
    labels = {label for (label,) in enum}
    problems += [f"enum participant_status lacks {status!r}" for status in STATUSES if status not in labels]
    if problems:
        raise StoreMisconfigured(f"table tracking_positions: {'; '.join(problems)}; see schema.sql")


async def texts(connection: PostgresConnection, sql: str) -> list[list[str]]:
    """Rows of a query whose columns are all text and not null."""
    result = await connection.query(sql)
    return [
        [(result.get_value(row, column) or b"").decode() for column in range(result.nfields)]
        for row in range(result.ntuples)
    ]
