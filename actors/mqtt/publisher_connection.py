"""One connection of a publisher, from dialling to its end. Used by the publisher's thread only, but for Bell.ring."""

from __future__ import annotations

import select
import ssl
import time
from collections import deque
from collections.abc import Callable
from uuid import uuid4

import attrs
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from actors.mqtt.bell import Bell
from actors.mqtt.end import UNSUPPORTED_VERSION
from actors.mqtt.paho import PAHO_ERRORS
from actors.mqtt.version import Heard
from actors.settings.load import Secret

CONNECT_TIMEOUT_S = 3.0
CONNACK_TIMEOUT_S = 3.0

WINDOW = 500
"""Messages on their way at once; a broker that takes fewer says so in CONNACK (mosquitto: 20)."""

NO_MATCHING_SUBSCRIBERS = 0x10  # MQTT 5 section 3.4.2.1
FINAL_REFUSALS = frozenset({0x85, 0x86, 0x87, 0x8A, 0x8C})
"""Client id, user or password, authorization, banned, method (MQTT 5 section 3.2.2.2): trying again would not help."""


@attrs.frozen
class Broker:
    """Where one node of the broker listens and how to log in."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    username: str  # empty: anonymous
    password: Secret
    keepalive_s: int


@attrs.frozen
class Ended:
    """How a connection ended."""

    reason: str
    was_up: bool  # the broker had accepted us
    is_final: bool
    heard: Heard  # about the version of MQTT
    at: str  # what was unanswered


@attrs.frozen
class Ear:
    """What is subscribed to, and who is told each payload, in the thread."""

    topic_filter: str
    tell: Callable[[bytes], None]


@attrs.define(eq=False)
class PublisherConnection:
    """Takes messages off `queue`; what the broker has not answered at the end is in `unanswered`, in order."""

    broker: Broker
    is_v5: bool
    is_question: bool  # whether the broker answers is all that we want to know
    queue: deque[tuple[str, bytes]]
    bell: Bell
    post: Callable[[int, int, int, str], None]  # acknowledged, of them unheard, refused, and why the first one was
    ear: Ear | None = None
    unanswered: dict[int, tuple[str, bytes]] = attrs.field(factory=dict)  # by packet id
    answered: int = 0
    _dialled: bool = False  # CONNECT was sent
    _accepted: bool = False  # by CONNACK
    _is_up: bool = False  # and this is not a question
    _window: int = WINDOW
    _over: str = ""  # set by a callback: why this connection ends
    _refusal: ReasonCode | None = None  # of CONNECT
    _is_deaf: bool = False  # the subscription was refused
    _is_hearing: bool = False  # it was granted
    _taken: int = 0  # since the last post, as the three below
    _unheard: int = 0
    _refused: int = 0
    _why: str = ""

    def run(self) -> Ended:
        """Publish until the connection ends. Raises trio.Cancelled, after a DISCONNECT."""
        client = self._client()
        try:
            try:
                self._dial(client)
                while not self._over:
                    self._turn(client)
            except PAHO_ERRORS as error:
                self._over = str(error) or type(error).__name__
        finally:
            client.disconnect()
            self._report()
        code = None if self._refusal is None else self._refusal.value
        return Ended(
            self._over,
            self._is_up,
            is_final=code in FINAL_REFUSALS or self._is_deaf,
            heard=self._heard(),
            at=self._at(),
        )

    def _at(self) -> str:
        if self.ear is not None and not self._is_hearing:
            return f"at our SUBSCRIBE to {self.ear.topic_filter}"
        return f"at our PUBLISH to {next((topic for topic, _ in self.unanswered.values()), 'nothing')}"

    def _heard(self) -> Heard:
        if self._accepted:
            return Heard.ACCEPTED
        if self._refusal is not None:
            return Heard.NOT_THIS_VERSION if self._refusal.value == UNSUPPORTED_VERSION else Heard.ANOTHER_NO
        return Heard.NOTHING if self._dialled else Heard.UNREACHED

    def _client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"tracking-publisher-{uuid4().hex[:12]}",
            protocol=mqtt.MQTTv5 if self.is_v5 else mqtt.MQTTv311,
            reconnect_on_failure=False,  # or it would fall back to MQTT 3.1 by itself
        )
        client.max_inflight_messages_set(0)  # the window is ours; with one of its own paho scans it for each PUBACK
        client.connect_timeout = CONNECT_TIMEOUT_S
        if self.broker.username or self.broker.password:
            client.username_pw_set(self.broker.username, self.broker.password.reveal() or None)
        if self.broker.tls is not None:
            client.tls_set_context(self.broker.tls)
        client.on_connect = self._connected
        client.on_publish = self._published
        client.on_disconnect = self._disconnected
        if self.ear is not None:
            tell = self.ear.tell
            client.on_message = lambda _client, _data, message: tell(bytes(message.payload))
            client.on_subscribe = self._subscribed
        return client

    def _dial(self, client: mqtt.Client) -> None:
        address = self.broker
        client.connect(address.host, address.port, address.keepalive_s)
        self._dialled = True
        deadline = time.monotonic() + CONNACK_TIMEOUT_S
        while not self._is_up and not self._over:
            if time.monotonic() > deadline:
                self._over = f"no answer to CONNECT within {CONNACK_TIMEOUT_S:g} s"
            self._turn(client, deadline - time.monotonic())

    def _turn(self, client: mqtt.Client, timeout_s: float = 1.0) -> None:
        while self._is_up and self.queue and len(self.unanswered) < self._window:
            topic, payload = self.queue.popleft()
            self.unanswered[client.publish(topic, payload, qos=1).mid] = (topic, payload)
        sock = client.socket()
        if sock is None:
            self._over = self._over or "connection lost"
            return
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            timeout_s = 0.0
        wanted = select.POLLIN | (select.POLLOUT if client.want_write() else 0)
        ready = self.bell.wait(timeout_s, sock.fileno(), wanted)
        code = client.loop_read() if ready & ~select.POLLOUT or timeout_s == 0.0 else mqtt.MQTT_ERR_SUCCESS
        if code == mqtt.MQTT_ERR_SUCCESS and ready & select.POLLOUT:
            code = client.loop_write()
        if code == mqtt.MQTT_ERR_SUCCESS:
            code = client.loop_misc()
        if code != mqtt.MQTT_ERR_SUCCESS:
            self._over = self._over or mqtt.error_string(code)
        self._report()

    def _report(self) -> None:
        if self._taken or self._refused:
            self.answered += self._taken + self._refused
            self.post(self._taken, self._unheard, self._refused, self._why)
            self._taken = self._unheard = self._refused = 0

    # --- paho's callbacks ---

    def _connected(
        self, client: mqtt.Client, _data: object, _: mqtt.ConnectFlags, reason: ReasonCode, given: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refusal = reason
            self._over = str(reason)
            return
        self._accepted = True
        if self.is_question:
            self._over = "only asked whether it answers"
            return
        self._is_up = True
        if self.ear is not None:  # before the first message: nothing that answers it is missed
            client.subscribe(self.ear.topic_filter, qos=1)
        self._window = min(WINDOW, getattr(given, "ReceiveMaximum", WINDOW))

    def _published(self, _: mqtt.Client, _data: object, packet_id: int, reason: ReasonCode, _given: Properties) -> None:
        if self.unanswered.pop(packet_id, None) is None:
            return
        if reason.is_failure:
            self._refused += 1
            self._why = self._why or str(reason)
        else:
            self._taken += 1
            self._unheard += reason.value == NO_MATCHING_SUBSCRIBERS

    def _subscribed(
        self, _: mqtt.Client, _data: object, _mid: int, reasons: list[ReasonCode], _given: Properties | None
    ) -> None:
        self._is_hearing = True
        for reason in reasons:
            if reason.is_failure:
                self._is_deaf = True
                self._over = f"subscription to receipts: {reason}"

    def _disconnected(
        self, _: mqtt.Client, _data: object, _flags: mqtt.DisconnectFlags, reason: ReasonCode, _given: Properties | None
    ) -> None:
        self._over = self._over or str(reason)
