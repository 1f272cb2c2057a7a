"""Applies schema.sql by looking into the catalog first: no lock and no right is needed where nothing is missing."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import attrs
import structlog

from actors.core.errors import StoreMisconfigured
from actors.history.postgres import binary
from actors.history.postgres.libpq import PostgresConnection, within

log = structlog.get_logger("migration")

SCHEMA = Path(__file__).parents[3] / "schema.sql"

LOCK = 0x7261636573  # "races": the advisory lock that daemons starting together take in turn
LOOK_S = 10.0
APPLY_S = 3600.0  # an index on a table of hundreds of millions of rows
WAIT_FOR_LOCK = "5s"  # others queue behind us while we wait for a lock on a busy table: give up, come back later

TABLE = "table tracking_positions"
"""Among what is missing: there is nothing to check yet."""

# What tells that an object is there, on the search path. $1 is the object's name as schema.sql gives it.
CATALOG = {
    "type": "select to_regtype($1) is not null",
    "table": "select to_regclass($1) is not null",
    "index": "select to_regclass($1) is not null",
    "function": "select to_regprocedure($1) is not null",
    "trigger": "select exists (select from pg_trigger"
    " where tgname = $1 and tgrelid in (to_regclass('tracking_positions'), to_regclass('tracking_participants')))",
}

_MARK = re.compile(r"^-- (?:object: (?P<kind>[a-z]+) (?P<name>\S+)|setting|end)$", re.MULTILINE)


@attrs.frozen
class Statements:
    """The statements that make one object; `kind` "setting" is run before others and makes nothing."""

    kind: str
    name: str
    sql: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def parse(text: str) -> list[Statements]:
    """Take schema.sql apart at its marks; what stands before the first one and after the last is for psql."""
    marks = list(_MARK.finditer(text))
    return [
        Statements(mark["kind"] or "setting", mark["name"] or "", text[mark.end() : following.start()].strip())
        for mark, following in pairwise(marks)
    ]


async def plan(connection: PostgresConnection) -> list[str]:
    """What is missing, in the order in which it would be made; changes nothing."""
    async with connection.transaction():
        return [str(item) for item in await _missing(connection)]


async def apply(connection: PostgresConnection) -> list[str]:
    """Make what is missing, in one transaction; returns what was made.

    Raises StoreUnavailable (also when a busy table cannot be locked within 5 s; the connection may then be closed)
    or StoreMisconfigured, which says what to do when a right is missing.
    """
    missing = await plan(connection)
    if not missing:
        return []
    log.info("schema is incomplete; large tables take about a second a million rows", objects_missing=len(missing))
    try:
        with within(APPLY_S):
            limits = ("set local statement_timeout = 0", f"set local lock_timeout = '{WAIT_FOR_LOCK}'")
            async with connection.transaction(*limits):
                await connection.query("select pg_advisory_xact_lock($1)", [binary.int8(LOCK)], [binary.INT8])
                made = await complete(connection)  # another daemon may have made it while we waited
    except StoreMisconfigured as error:
        raise StoreMisconfigured(
            f"{error}; the database lacks {', '.join(missing)}: run `python supervisor.py migrate`, or"
            " `psql -f schema.sql`, as a user who may create them"
        ) from None
    log.info("schema applied", objects_made=len(made))
    return made


async def complete(connection: PostgresConnection) -> list[str]:
    """Make what is missing, within the caller's transaction; returns what was made."""
    for item in parse(SCHEMA.read_text(encoding="utf-8")):
        if item.kind == "setting":
            await connection.script(item.sql)
    todo = await _missing(connection)
    for item in todo:
        await connection.script(item.sql)
    return [str(item) for item in todo]


async def _missing(connection: PostgresConnection) -> list[Statements]:
    missing = []
    with within(LOOK_S):
        for item in parse(SCHEMA.read_text(encoding="utf-8")):
            if item.kind == "setting":
                continue
            result = await connection.query(CATALOG[item.kind], [item.name.encode()], [binary.TEXT])
            if result.get_value(0, 0) != b"\x01":
                missing.append(item)
    return missing
