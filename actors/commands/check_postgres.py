"""Reaching an external PostgreSQL once, for `check`: every server that is named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import chain

import trio

from actors.commands import check_servers
from actors.commands.check_servers import Finding
from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.postgres import migration
from actors.history.postgres.libpq import PostgresConnection, connect
from actors.history.postgres.standby import missing_standby
from actors.history.postgres.table_check import OLDEST, check_table, texts

READ_ONLY = "is read-only (a standby?); name the primary"
SHOWN = ("fsync", "full_page_writes", "synchronous_commit", "server_encoding", "transaction_read_only")


def database(address: PostgresAddress) -> Iterator[Finding]:
    """Everything that the daemon asks of PostgreSQL when it connects, and what decides whether a commit is one."""
    yield from trio.run(_findings, address)


async def _findings(address: PostgresAddress) -> list[Finding]:
    """Of several servers one that fails, or is a standby, is no fault as long as another one takes writes."""
    if not address.others:
        return await _server(address)
    found = [await _server(server) for server in address.servers]
    good = sum(all(finding.level != "FAILED" for finding in findings) for findings in found)
    if not good:
        return [*chain(*found), Finding("FAILED", "postgres", "none of the servers can be used for writing")]
    told = [finding for findings in found for finding in _beside_others(findings)]
    if good > 1:
        text = f"{good} servers take writes: rows go to the first that answers, and the others do not have them"
        told.append(Finding("warning", "postgres", text))
    return told


def _beside_others(findings: list[Finding]) -> Iterator[Finding]:
    standby = READ_ONLY in [finding.text for finding in findings]
    for finding in findings:
        if finding.level == "ok":
            role = ", standby: history is read from it while no other one answers" if standby else ", takes writes"
            yield Finding("ok", "postgres", finding.text + role)
        elif finding.level == "FAILED" and not standby:
            yield Finding("warning", "postgres", finding.text)
        elif not standby:
            yield finding


async def _server(address: PostgresAddress) -> list[Finding]:
    """Of the first address of the name that can be written, else of the last one."""
    where = f"{address.host}:{address.port}/{address.database}"
    found: list[Finding] = []

    async def look(connection: PostgresConnection) -> None:
        found.clear()
        answers = Finding("ok", "postgres", f"{where} answers, version {connection.server_version // 10_000}")
        found.extend([answers, *[finding async for finding in _weak_spots(connection)]])
        if READ_ONLY in [finding.text for finding in found]:
            raise StoreUnavailable(READ_ONLY)

    try:
        (await connect(address, "race-tracking check", check_servers.CONNECT_S, look)).close()
    except (StoreUnavailable, StoreMisconfigured) as error:
        if READ_ONLY not in str(error) or not found:
            found.append(Finding("FAILED", "postgres", f"{where} cannot be used: {' '.join(str(error).split())}"))
    return found


async def _weak_spots(connection: PostgresConnection) -> AsyncIterator[Finding]:
    if connection.server_version < OLDEST:
        yield Finding("FAILED", "postgres", "is older than version 14; allowed is 14 or newer")
    async with connection.transaction():
        rows = await texts(connection, f"select name, current_setting(name) from unnest(array{list(SHOWN)}) as name")
    shown = {row[0]: row[1] for row in rows}
    for name in ("fsync", "full_page_writes"):
        if shown[name] == "off":
            yield Finding("warning", "postgres", f"{name} is off: committed rows do not survive a crash of the machine")
    if shown["synchronous_commit"] == "off":
        text = "synchronous_commit is off: a crash loses rows that were acknowledged to the trackers"
        yield Finding("warning", "postgres", text)
    missing = await missing_standby(connection)
    if missing:
        yield Finding("warning", "postgres", missing)
    if shown["server_encoding"] != "UTF8":
        text = f"the encoding of the database is {shown['server_encoding']}; allowed is UTF8, ids are of any script"
        yield Finding("FAILED", "postgres", text)
    if shown["transaction_read_only"] == "on":
        yield Finding("FAILED", "postgres", READ_ONLY)
    lacks = await migration.plan(connection)
    if migration.TABLE in lacks:
        yield Finding("warning", "postgres", "has no table tracking_positions yet: the daemon or `migrate` makes it")
        return
    if lacks:
        yield Finding("warning", "postgres", f"lacks {', '.join(lacks)}: the daemon or `migrate` makes them")
    try:
        await check_table(connection)
    except StoreMisconfigured as wrong:
        yield Finding("FAILED", "postgres", str(wrong))
