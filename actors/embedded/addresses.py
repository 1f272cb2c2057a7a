"""Where the servers are, embedded or not."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from actors.core.addresses import BrokerAddress, PostgresAddress, RedisAddress
from actors.core.broker_url import broker_addresses
from actors.core.errors import NotStarted
from actors.core.file_name import on_disk
from actors.core.host_list import host_list
from actors.embedded import broker as embedded_broker
from actors.embedded import postgres as embedded_postgres
from actors.embedded import valkey
from actors.settings.load import Settings
from actors.settings.values import is_socket


@attrs.frozen
class Addresses:
    """Where everything is, embedded or not."""

    broker: BrokerAddress
    redis: RedisAddress
    postgres: PostgresAddress


def addresses(settings: Settings) -> Addresses:
    """From settings and, for embedded servers, data_dir. Raises NotStarted when these were never set up."""
    return Addresses(
        broker_address(settings),
        redis_address(settings),
        postgres_address(settings),
    )


def uses_embedded(settings: Settings) -> bool:
    """Whether any server is to be started by the daemon."""
    return embeds_broker(settings) or "embedded" in (settings.redis.host, settings.postgres.host)


def embeds_broker(settings: Settings) -> bool:
    """Whether the daemon is to start a broker: not where it reads none."""
    return settings.mqtt.broker_url == "embedded" and settings.cluster.ingest != "none"


def broker_address(settings: Settings) -> BrokerAddress:
    """The broker's, as the daemon and the publishing commands reach it."""
    mqtt = settings.mqtt
    if mqtt.broker_url == "embedded":
        return embedded_broker.address(mqtt)
    first, *others = broker_addresses(mqtt.broker_url)
    return BrokerAddress(first.host, first.port, first.tls, mqtt.username, mqtt.password, tuple(others))


def redis_address(settings: Settings) -> RedisAddress:
    """Redis', from settings or data_dir. Raises NotStarted when it is embedded and does not run."""
    redis = settings.redis
    if redis.host == "embedded":
        where = valkey.address(settings.app.data_dir.absolute(), redis)
        _must_run("Valkey", Path(where.socket_path), settings)
        return where
    if is_socket(redis.host):
        path = on_disk(redis.host)
        return RedisAddress(username=redis.username, password=redis.password, db=redis.db, socket_path=path)
    first, *others = host_list(redis.host, redis.port)
    return RedisAddress(
        first.host,
        first.port,
        redis.username,
        redis.password,
        redis.db,
        redis.tls,
        mode=redis.mode,
        others=tuple(others),
        service=redis.sentinel_service,
        sentinel_username=redis.sentinel_username,
        sentinel_password=redis.sentinel_password,
    )


def postgres_address(settings: Settings) -> PostgresAddress:
    """PostgreSQL's, from settings or data_dir. Raises NotStarted when it is embedded and does not run."""
    pg = settings.postgres
    if pg.host == "embedded":
        at = embedded_postgres.address(settings.app.data_dir.absolute(), pg)
        _must_run("PostgreSQL", Path(at.host) / f".s.PGSQL.{at.port}", settings)
        return at
    if pg.host.startswith("/"):
        return PostgresAddress(pg.host, pg.port, pg.username, pg.password, pg.database, pg.sslmode)
    first, *others = host_list(pg.host, pg.port)
    return PostgresAddress(
        first.host, first.port, pg.username, pg.password, pg.database, pg.sslmode, others=tuple(others)
    )


def _must_run(name: str, socket: Path, settings: Settings) -> None:
    if not os.access(socket, os.W_OK):
        raise NotStarted(
            f"the embedded {name} of {settings.app.data_dir} is not running, or runs for another user: start the daemon"
        )
