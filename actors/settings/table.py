"""The table of settings: one row a key, its default as written in the file and the parser of its type and range."""

# ruff: noqa: RUF009 - `key` returns an attrs field, made once for each row: nothing mutable is shared
from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, TypeVar

import attrs

from actors.core.addresses import Secret
from actors.core.broker_url import broker_url
from actors.settings import values as v
from actors.settings.tile_url import tile_url as parse_tile_url

T = TypeVar("T")
DAY_S = 86_400
DAY_MS = DAY_S * 1000
MIB = 1024 * 1024
PORT = v.whole(1, 65_535)


def key(default: str, parse: v.Parser[T]) -> T:
    """One row: the default as text, and its parser. Typed as the value, so that the classes read as what they hold."""
    field: T = attrs.field(default=parse(default), metadata={"default": default, "parse": parse})
    return field


@attrs.frozen
class AppSettings:
    port: int = key("3000", PORT)
    stale_data_threshold_ms: int = key("30000", v.whole(1, DAY_MS))
    max_clock_skew_ms: int = key("300000", v.whole(0, DAY_MS))
    max_races: int = key("10000", v.whole(1, 1_000_000))
    race_idle_ms: int = key("3600000", v.whole(1, 365 * DAY_MS))
    data_dir: Path = key("var", v.folder)
    log_format: str = key("console", v.choice("console", "json"))
    log_level: str = key("info", v.choice("debug", "info", "warning", "error"))
    node_id: str = attrs.field(factory=socket.gethostname, metadata={"default": "", "parse": v.node_id})


@attrs.frozen
class MqttSettings:
    broker_url: str = key("embedded", broker_url)
    username: str = key("", v.line(0, 255))
    password: Secret = key("", v.secret)
    client_id: str = key("tracking-backend", v.line(1, 128))
    topics: tuple[str, ...] = key("tracking/+/position", v.topics)
    qos: int = key("1", v.whole(0, 1, {"2": "QoS 2 with acknowledgement after the commit loses messages in a crash"}))
    protocol: str = key("auto", v.choice("auto", "5", "3.1.1"))
    session_expiry_s: int = key(
        "86400", v.whole(1, 2**32 - 1, {"0": "a session that ends with the connection loses what came in between"})
    )
    receive_maximum: int = key("10000", v.whole(1, 65_535))
    keepalive_s: int = key("15", v.whole(1, 65_535))
    max_payload_bytes: int = key("262144", v.whole(1, 64 * MIB))
    receipt_topic: str = key("", v.receipt_topic)
    topic_identity: str = key("none", v.choice("none", "participant_id", "race_id"))
    ca_file: Path | None = key("", v.optional_file)
    cert_file: Path | None = key("", v.optional_file)
    key_file: Path | None = key("", v.optional_file)
    embedded_bind: str = key("127.0.0.1:1883", v.embedded_bind)


@attrs.frozen
class RedisSettings:
    host: str = key("embedded", v.redis_host)
    port: int = key("6379", PORT)
    username: str = key("", v.line(0, 255))
    password: Secret = key("", v.secret)
    db: int = key("0", v.whole(0, 65_535))
    tls: bool = key("no", v.yes_no)
    mode: str = key("single", v.choice("single", "sentinel", "cluster"))
    sentinel_service: str = key("mymaster", v.line(1, 255))
    sentinel_username: str = key("", v.line(0, 255))
    sentinel_password: Secret = key("", v.secret)
    ttl_s: int = key("604800", v.whole(1, 3650 * DAY_S))
    flush_ms: int = key("50", v.whole(1, 60_000))


@attrs.frozen
class PostgresSettings:
    host: str = key("embedded", v.postgres_host)
    port: int = key("5432", PORT)
    username: str = key("postgres", v.line(1, 63))
    password: Secret = key("", v.secret)
    database: str = key("tracking", v.line(1, 63))
    sslmode: str = key("prefer", v.choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full"))
    batch_rows: int = key("1000", v.whole(1, 100_000))
    batch_ms: int = key("100", v.whole(0, 60_000))
    lock_host: str = key("", v.lock_host)
    queue_rows: int = key("50000", v.whole(1, 10_000_000))
    spool: bool = key("yes", v.yes_no)
    spool_after_s: int = key("3", v.whole(0, 3600))
    spool_max_mb: int = key("1024", v.whole(1, MIB))


@attrs.frozen
class WsSettings:
    host: tuple[str, ...] = key("127.0.0.1", v.hosts)
    port: int = key("3000", PORT)
    path: str = key("/tracking", v.url_path)
    cors_origin: tuple[str, ...] = key("*", v.origins)
    cors_credentials: bool = key("no", v.yes_no)
    auth: str = key("token", v.choice("token", "off"))
    auth_secret: Secret = key("", v.auth_secret)
    batch_window_ms: int = key("100", v.whole(0, 60_000))
    compression: bool = key("yes", v.yes_no)
    outbox_bytes: int = key("1048576", v.whole(256, 1024 * MIB))
    send_timeout_ms: int = key("10000", v.whole(1, 600_000))
    heartbeat_s: int = key("20", v.whole(1, 3600))
    max_connections: int = key("10000", v.whole(1, 1_000_000))
    max_handshakes: int = key("500", v.whole(1, 100_000))
    max_subscriptions: int = key("100", v.whole(1, 100_000))
    max_message_bytes: int = key("4096", v.whole(64, 16 * MIB))
    max_requests_per_s: int = key("50", v.whole(1, 100_000))
    handshake_timeout_s: int = key("5", v.whole(1, 600))


@attrs.frozen
class PageSettings:
    tile_url: str = key("", parse_tile_url)
    tile_max_zoom: int = key("19", v.whole(0, 22))


@attrs.frozen
class TlsSettings:
    cert_file: Path | None = key("", v.optional_file)
    key_file: Path | None = key("", v.optional_file)


@attrs.frozen
class SupervisorSettings:
    max_restarts: int = key("5", v.whole(0, 1000))
    restart_window_s: int = key("30", v.whole(1, DAY_S))
    backoff_initial_ms: int = key("100", v.whole(0, 60_000))
    backoff_max_ms: int = key("10000", v.whole(0, 3_600_000))
    drain_timeout_s: int = key("15", v.whole(1, 3600))


@attrs.frozen
class ClusterSettings:
    ingest: str = key("alone", v.choice("alone", "standby", "shared", "none"))
    shared_group: str = key("tracking", v.share_group)
    relay: bool = key("no", v.yes_no)


@attrs.frozen
class Settings:
    """Everything that can be set; a group is a section of settings.ini, an attribute a key of it. Made from nothing it
    has every key at its default; `data_dir` is the relative path `var` then."""

    app: AppSettings = attrs.field(factory=AppSettings)
    mqtt: MqttSettings = attrs.field(factory=MqttSettings)
    redis: RedisSettings = attrs.field(factory=RedisSettings)
    postgres: PostgresSettings = attrs.field(factory=PostgresSettings)
    ws: WsSettings = attrs.field(factory=WsSettings)
    page: PageSettings = attrs.field(factory=PageSettings)
    tls: TlsSettings = attrs.field(factory=TlsSettings)
    cluster: ClusterSettings = attrs.field(factory=ClusterSettings)
    supervisor: SupervisorSettings = attrs.field(factory=SupervisorSettings)


GROUPS: dict[str, type[Any]] = {
    "app": AppSettings,
    "mqtt": MqttSettings,
    "redis": RedisSettings,
    "postgres": PostgresSettings,
    "ws": WsSettings,
    "page": PageSettings,
    "tls": TlsSettings,
    "cluster": ClusterSettings,
    "supervisor": SupervisorSettings,
}
KEYS = {section: {row.name: row.metadata for row in attrs.fields(group)} for section, group in GROUPS.items()}
"""section -> key -> {"default": as in the file, "parse": its parser}"""


def is_secret(section: str, name: str) -> bool:
    """True for keys that are never shown and that `KEY_file` may give."""
    return KEYS[section][name]["parse"] in (v.secret, v.auth_secret)


def variable(section: str, name: str) -> str:
    """The environment variable that overrides a key."""
    return (name if section == "app" else f"{section}_{name}").upper()
