"""Reaching an external Redis and PostgreSQL once, for `check`: as check_servers.py does a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from actors.commands import check_servers
from actors.commands.check_servers import Finding
from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.postgres import migration
from actors.history.postgres.libpq import PostgresConnection, connect
from actors.history.postgres.standby import missing_standby
from actors.history.postgres.table_check import OLDEST, check_table, texts
from actors.settings.load import PostgresSettings, RedisSettings

READ_ONLY = "is read-only (a standby?); name the primary"
SHOWN = ("fsync", "full_page_writes", "synchronous_commit", "server_encoding", "transaction_read_only")


def cache(settings: RedisSettings) -> Iterator[Finding]:
    """Ping, then what INFO tells about eviction and the role."""
    where = f"{settings.host}:{settings.port}/{settings.db}"
    client = redis.Redis(
        host=settings.host,
        port=settings.port,
        db=settings.db,
        username=settings.username or None,
        password=settings.password.reveal() or None,
        ssl=settings.tls,
        socket_connect_timeout=check_servers.CONNECT_S,
        socket_timeout=check_servers.ANSWER_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        client.ping()
    except redis.RedisError as error:
        yield Finding("FAILED", "redis", f"{where} cannot be used: {error}")
        client.close()
        return
    try:
        info = client.info()
    except redis.RedisError as error:
        yield Finding("ok", "redis", f"{where} answers")
        yield Finding("warning", "redis", f"INFO is not allowed, so the eviction policy is unknown: {error}")
        return
    finally:
        client.close()
    yield Finding("ok", "redis", f"{where} answers, {_version(info)}")
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy}: live positions may vanish from it; noeviction is better"
        yield Finding("warning", "redis", text)
    if info.get("role") in ("slave", "replica"):
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        yield Finding("FAILED", "redis", f"is a replica of {primary}, which takes no writes; name the primary")
    if int(info.get("cluster_enabled", 0)):
        yield Finding("FAILED", "redis", "is part of a Redis Cluster, which is not supported; name a single server")


def _version(info: dict[str, Any]) -> str:
    """Forks give themselves a name and say which Redis they are compatible with."""
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version', info.get('redis_version', ''))}"


def database(settings: PostgresSettings) -> Iterator[Finding]:
    """Everything that the daemon asks of PostgreSQL when it connects, and what decides whether a commit is one."""
    where = f"{settings.host}:{settings.port}/{settings.database}"
    address = PostgresAddress(
        settings.host, settings.port, settings.username, settings.password, settings.database, settings.sslmode
    )
    yield from trio.run(_findings, address, where)


async def _findings(address: PostgresAddress, where: str) -> list[Finding]:
    """Of the first address of the name that can be written, else of the last one."""
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
