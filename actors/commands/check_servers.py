"""Reaching external servers once, for `check`: each function says what it found, within seconds, and never raises.

Plain blocking calls: nothing else runs in this process.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import attrs
import paho.mqtt.client as mqtt
import psycopg
import redis
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from redis.backoff import NoBackoff
from redis.retry import Retry

from actors.core.settings_values import Address
from actors.settings import MqttSettings, PostgresSettings, RedisSettings

CONNECT_S = 5
ANSWER_S = 3
KEEPALIVE_S = 30  # longer than a visit
VERSION_S = 1.0  # for a retained message that most brokers have
VERSION_TOPIC = "$SYS/broker/version"
OLDEST_POSTGRES = 140_000  # for `create or replace trigger` in schema.sql


@attrs.frozen
class Finding:
    """One line of `check`. `level`: ok, warning or FAILED."""

    level: str
    subject: str
    text: str


def broker(settings: MqttSettings, address: Address) -> Iterator[Finding]:
    """Connect under a client_id of our own, so that a running daemon is not thrown out; ask for the version."""
    where = f"{address.host}:{address.port}"
    try:
        visit = _visit(settings, address)
    except OSError as error:  # ssl.SSLError is one
        yield Finding("FAILED", "broker", f"{where} cannot be reached: {error}")
        return
    if visit.refusal or not visit.connected:
        silent = "no answer to CONNECT; does it know MQTT 5? protocol = 3.1.1 in [mqtt] may help"
        yield Finding("FAILED", "broker", f"{where}: {visit.refusal or silent}")
        return
    yield Finding("ok", "broker", f"{where} answers, {visit.version or 'version unknown'}, MQTT {settings.protocol}")
    if visit.max_qos < settings.qos:
        yield Finding("FAILED", "broker", f"allows QoS {visit.max_qos} at most, [mqtt] qos is {settings.qos}")
    if visit.expiry_s is not None and visit.expiry_s < settings.session_expiry_s:
        text = f"keeps a session for {visit.expiry_s} s only, [mqtt] session_expiry_s is {settings.session_expiry_s}"
        yield Finding("warning", "broker", text)


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
        socket_connect_timeout=CONNECT_S,
        socket_timeout=ANSWER_S,
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
    yield Finding("ok", "redis", f"{where} answers, {info.get('server_name', 'redis')} {info.get('redis_version', '')}")
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy}: live positions may vanish from it; noeviction is better"
        yield Finding("warning", "redis", text)
    if info.get("role") in ("slave", "replica"):
        yield Finding("FAILED", "redis", "is a replica, which takes no writes; name the primary")


def database(settings: PostgresSettings) -> Iterator[Finding]:
    """Connect and read the settings that decide whether a commit is one."""
    where = f"{settings.host}:{settings.port}/{settings.database}"
    try:
        with psycopg.connect(
            host=settings.host,
            port=settings.port,
            user=settings.username,
            password=settings.password.reveal(),
            dbname=settings.database,
            sslmode=settings.sslmode,
            connect_timeout=CONNECT_S,
            application_name="tracking-check",
            options=f"-c statement_timeout={ANSWER_S}s",
            tcp_user_timeout=ANSWER_S * 1000,
            autocommit=True,
        ) as connection:
            yield Finding("ok", "postgres", f"{where} answers, version {connection.info.server_version // 10_000}")
            yield from _weak_spots(connection)
    except psycopg.Error as error:
        yield Finding("FAILED", "postgres", f"{where} cannot be used: {' '.join(str(error).split())}")


def _weak_spots(connection: psycopg.Connection) -> Iterator[Finding]:
    def value(name: str) -> str:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
        return str(row[0]) if row else ""

    if connection.info.server_version < OLDEST_POSTGRES:
        yield Finding("FAILED", "postgres", "is older than version 14; allowed is 14 or newer")
    for name in ("fsync", "full_page_writes"):
        if value(name) == "off":
            yield Finding("warning", "postgres", f"{name} is off: committed rows do not survive a crash of the machine")
    if value("synchronous_commit") == "off":
        text = "synchronous_commit is off: a crash loses rows that were acknowledged to the trackers"
        yield Finding("warning", "postgres", text)
    if value("server_encoding") != "UTF8":
        text = f"the encoding of the database is {value('server_encoding')}; allowed is UTF8, ids are of any script"
        yield Finding("FAILED", "postgres", text)
    if value("transaction_read_only") == "on":
        yield Finding("FAILED", "postgres", "is read-only (a standby?); name the primary")
    row = connection.execute("SELECT to_regclass('tracking_positions') IS NOT NULL").fetchone()
    if row and not row[0]:
        yield Finding("warning", "postgres", "has no table tracking_positions yet: the daemon or `migrate` makes it")


@attrs.define
class _Visit:
    """What one connection to a broker told."""

    connected: bool = False
    refusal: str = ""
    version: str = ""
    max_qos: int = 2
    expiry_s: int | None = None  # when the broker keeps sessions for less than it was asked to


def _visit(settings: MqttSettings, address: Address) -> _Visit:
    """Raises OSError."""
    visit = _Visit()
    five = settings.protocol == "5"
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"{settings.client_id}-check-{os.getpid()}",
        protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
        clean_session=None if five else True,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_S
    if settings.username or settings.password:
        client.username_pw_set(settings.username, settings.password.reveal() or None)
    if address.tls:
        client.tls_set_context(_proven_context(settings, address))

    def on_connect(
        _client: mqtt.Client, _data: object, _flags: mqtt.ConnectFlags, reason: ReasonCode, given: Properties | None
    ) -> None:
        if reason.is_failure:
            visit.refusal = f"refused: {reason}"
            return
        visit.connected = True
        visit.max_qos = getattr(given, "MaximumQoS", 2)
        visit.expiry_s = getattr(given, "SessionExpiryInterval", None)
        client.subscribe(VERSION_TOPIC)

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        visit.version = message.payload.decode("utf-8", "replace")[:80]

    client.on_connect, client.on_message = on_connect, on_message
    if five:
        # Asked for so that the broker says when it allows less; the DISCONNECT below ends the session at once.
        asked = _session_expiry(PacketTypes.CONNECT, settings.session_expiry_s)
        client.connect(address.host, address.port, KEEPALIVE_S, clean_start=True, properties=asked)
    else:
        client.connect(address.host, address.port, KEEPALIVE_S)
    _turn(client, time.monotonic() + ANSWER_S, lambda: visit.connected or bool(visit.refusal))
    if visit.connected:
        _turn(client, time.monotonic() + VERSION_S, lambda: bool(visit.version))
    # Once its DISCONNECT is written, paho closes the socket; also when the broker has said nothing.
    client.disconnect(properties=_session_expiry(PacketTypes.DISCONNECT, 0) if five else None)
    return visit


def _proven_context(settings: MqttSettings, address: Address) -> ssl.SSLContext:
    """Good for a handshake: tried on a connection of our own, because paho leaves its socket open when one fails.

    Raises OSError.
    """
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    with (
        socket.create_connection((address.host, address.port), timeout=CONNECT_S) as plain,
        context.wrap_socket(plain, server_hostname=address.host),
    ):
        return context


def _session_expiry(packet: int, seconds: int) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho has no annotation there
    properties.SessionExpiryInterval = seconds
    return properties


def _turn(client: mqtt.Client, deadline: float, done: Callable[[], bool]) -> None:
    """Let paho work until `done`, the deadline (monotonic seconds) or the end of the connection."""
    while not done() and time.monotonic() < deadline:
        if client.loop(timeout=0.1) != mqtt.MQTT_ERR_SUCCESS:
            return
