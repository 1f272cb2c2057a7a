"""Reaching an external broker once, for `check`: says what it found, within seconds, and never raises.

Plain blocking calls: nothing else runs in this process.
"""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import attrs
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from actors.core.addresses import Address
from actors.mqtt.drop_counts import TOPIC as DROPS_TOPIC
from actors.mqtt.drop_counts import total_in
from actors.mqtt.end import UNSUPPORTED_VERSION
from actors.mqtt.socket import tls_context
from actors.mqtt.version import Heard, Version
from actors.settings.load import MqttSettings

CONNECT_S = 5
ANSWER_S = 3
KEEPALIVE_S = 30  # longer than a visit
VERSION_S = 1.0  # for a retained message that most brokers have
VERSION_TOPIC = "$SYS/broker/version"


@attrs.frozen
class Finding:
    """One line of `check`. `level`: ok, warning or FAILED."""

    level: str
    subject: str
    text: str


def broker(settings: MqttSettings, nodes: tuple[Address, ...]) -> Iterator[Finding]:
    """Each node; one that fails is a weak spot as long as another one works."""
    found = [list(_node(settings, node)) for node in nodes]
    works = any(all(finding.level != "FAILED" for finding in findings) for findings in found)
    for finding in itertools.chain(*found):
        yield attrs.evolve(finding, level="warning") if works and finding.level == "FAILED" else finding


def _node(settings: MqttSettings, address: Address) -> Iterator[Finding]:
    """Connect under a client_id of our own, so that a running daemon is not thrown out; ask for the version."""
    where = f"{address.host}:{address.port}"
    version = Version(settings.protocol)
    try:
        visit = _visit(settings, address, version.speaks)
        while version.heard(visit.heard):
            visit = _visit(settings, address, version.speaks)
        if visit.heard in (Heard.NOTHING, Heard.NOT_THIS_VERSION):
            yield Finding("FAILED", "broker", f"{where}: {_unanswered(settings, address, visit)}")
            return
        refused = [] if visit.refusal else _refused_topics(settings, address, visit.spoken)
    except OSError as error:  # ssl.SSLError is one
        yield Finding("FAILED", "broker", f"{where} cannot be reached: {error}")
        return
    if visit.refusal:
        yield Finding("FAILED", "broker", f"{where}: {visit.refusal}")
        return
    yield Finding("ok", "broker", f"{where} answers, {visit.version or 'version unknown'}, MQTT {visit.spoken}")
    for text in refused:
        yield Finding("FAILED", "broker", text)
    if version.fell_back:
        text = "has no MQTT 5, so it is not told session_expiry_s and receive_maximum of [mqtt]: its own settings count"
        yield Finding("warning", "broker", text)
    if visit.dropped:
        text = f"has dropped {visit.dropped} messages, of all its clients, since its start: queues were full"
        yield Finding("warning", "broker", f"{text}; raise max_queued_messages in mosquitto.conf")
    if visit.max_qos < settings.qos:
        yield Finding("FAILED", "broker", f"allows QoS {visit.max_qos} at most, [mqtt] qos is {settings.qos}")
    if visit.expiry_s is not None and visit.expiry_s < settings.session_expiry_s:
        text = f"keeps a session for {visit.expiry_s} s only, [mqtt] session_expiry_s is {settings.session_expiry_s}"
        yield Finding("warning", "broker", text)


def _unanswered(settings: MqttSettings, address: Address, visit: _Visit) -> str:
    """Why there is no answer to the version that is set, or to both. Raises OSError."""
    if settings.protocol == "auto":
        return visit.refusal or "no answer to CONNECT, neither of MQTT 5 nor of 3.1.1"
    other = "3.1.1" if settings.protocol == "5" else "5"
    said = visit.refusal or f"no answer to CONNECT of MQTT {settings.protocol}"
    if _visit(settings, address, other).heard in (Heard.NOTHING, Heard.NOT_THIS_VERSION):
        return said
    return f"{said}, but one to MQTT {other}: set [mqtt] protocol = auto or {other}"


@attrs.define
class _Visit:
    """What one connection to a broker told."""

    spoken: str  # version of MQTT
    connected: bool = False
    code: int = 0  # of a CONNACK that refuses
    refusal: str = ""
    version: str = ""
    dropped: int | None = None  # messages; mosquitto tells
    max_qos: int = 2
    expiry_s: int | None = None  # when the broker keeps sessions for less than it was asked to

    @property
    def heard(self) -> Heard:
        if self.connected:
            return Heard.ACCEPTED
        if not self.code:
            return Heard.NOTHING
        return Heard.NOT_THIS_VERSION if self.code == UNSUPPORTED_VERSION else Heard.ANOTHER_NO


def _visit(settings: MqttSettings, address: Address, spoken: str) -> _Visit:
    """Raises OSError."""
    visit = _Visit(spoken)
    five = spoken == "5"
    client = _client(settings, address, spoken)

    def on_connect(
        _client: mqtt.Client, _data: object, _flags: mqtt.ConnectFlags, reason: ReasonCode, given: Properties | None
    ) -> None:
        if reason.is_failure:
            visit.refusal, visit.code = f"refused: {reason}", reason.value
            return
        visit.connected = True
        visit.max_qos = getattr(given, "MaximumQoS", 2)
        visit.expiry_s = getattr(given, "SessionExpiryInterval", None)
        client.subscribe(VERSION_TOPIC)

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic == DROPS_TOPIC:
            visit.dropped = total_in(bytes(message.payload))
            return
        visit.version = message.payload.decode("utf-8", "replace")[:80]
        if visit.version.startswith("mosquitto"):  # others may end the connection over it
            client.subscribe(DROPS_TOPIC)

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
    if visit.version.startswith("mosquitto"):
        _turn(client, time.monotonic() + VERSION_S, lambda: visit.dropped is not None)
    # Once its DISCONNECT is written, paho closes the socket; also when the broker has said nothing.
    client.disconnect(properties=_session_expiry(PacketTypes.DISCONNECT, 0) if five else None)
    return visit


def _refused_topics(settings: MqttSettings, address: Address, spoken: str) -> list[str]:
    """What the broker has against our subscriptions, on a connection of its own, which it may end over them."""
    told: list[str] = []
    asked = answered = False
    client = _client(settings, address, spoken)

    def on_connect(
        _client: mqtt.Client, _data: object, _flags: mqtt.ConnectFlags, _reason: ReasonCode, _given: Properties | None
    ) -> None:
        nonlocal asked
        asked = client.subscribe([(topic, 0) for topic in settings.topics])[0] == mqtt.MQTT_ERR_SUCCESS

    def on_subscribe(
        _client: mqtt.Client, _data: object, _mid: int, reasons: list[ReasonCode], _given: Properties | None
    ) -> None:
        nonlocal answered
        answered = True
        for topic, reason in zip(settings.topics, reasons, strict=False):
            if reason.is_failure:
                told.append(f"refuses a subscription to {topic}: {reason}")

    client.on_connect, client.on_subscribe = on_connect, on_subscribe
    client.connect(address.host, address.port, KEEPALIVE_S)
    _turn(client, time.monotonic() + ANSWER_S, lambda: answered)
    if asked and not answered and not client.is_connected():
        told.append(f"ends the connection at a subscription to {', '.join(settings.topics)}: not allowed?")
    client.disconnect()
    return told


def _client(settings: MqttSettings, address: Address, spoken: str) -> mqtt.Client:
    """Not connected yet. Raises OSError."""
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"{settings.client_id}-check-{os.getpid()}",
        protocol=mqtt.MQTTv5 if spoken == "5" else mqtt.MQTTv311,
        clean_session=None if spoken == "5" else True,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_S
    if settings.username or settings.password:
        client.username_pw_set(settings.username, settings.password.reveal() or None)
    if address.tls:
        client.tls_set_context(_proven_context(settings, address))
    return client


def _proven_context(settings: MqttSettings, address: Address) -> ssl.SSLContext:
    """Good for a handshake: tried on a connection of our own, because paho leaves its socket open when one fails.

    Raises OSError.
    """
    context = tls_context(settings)
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
