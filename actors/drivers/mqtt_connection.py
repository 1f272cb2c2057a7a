"""One connection to the broker: from CONNECT over CONNACK and SUBACK to its end. Used by the driver's thread only.

What paho raises (PAHO_ERRORS) is about what the broker sent: it is logged and ends this connection, nothing more.
"""

from __future__ import annotations

import select
import ssl
import time
from collections import deque
from collections.abc import Callable
from itertools import count

import attrs
import structlog
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from actors.core.mqtt_deliveries import EVENT_BYTES, EVENT_MESSAGES, Deliveries
from actors.core.mqtt_split import Arrivals, Splitter
from actors.drivers.addresses import BrokerAddress
from actors.drivers.mqtt_paho import PAHO_ERRORS, Notes, PahoClient
from actors.drivers.mqtt_socket import READ_BYTES, BufferedSocket, Wait
from actors.drivers.mqtt_topics import Subscriptions
from actors.messages import BrokerEvent, Connected
from actors.settings import MqttSettings

log = structlog.get_logger("mqtt")

CONNACK_TIMEOUT_S = 10.0
FLUSH_TIMEOUT_S = 2.0
"""For what was posted before disconnect()."""
LINGER_S = 1.0
"""For the broker to close after our DISCONNECT: closing first, with unread data, would reset the connection and
could destroy the last acknowledgements on their way."""

PLAIN = False
"""True leaves every packet to paho, three times slower: for a broker whose PUBLISH the splitter does not understand."""

PUBLISH_WINDOW = 20
"""QoS 1 messages of ours without PUBACK; mosquitto takes this many, a broker that takes fewer says so in CONNACK."""

SESSION_TAKEN_OVER = 0x8E  # MQTT 5 section 3.14.2.1


@attrs.define(eq=False)
class Connection:
    """Owns the socket and paho, from `open` until `ended` says why it is over."""

    sock: BufferedSocket
    address: BrokerAddress
    settings: MqttSettings
    subscriptions: Subscriptions
    epochs: count[int]  # the next one is ours as soon as the broker has accepted us
    owed: int = 0  # see Deliveries
    epoch: int = 0  # 0 until then
    ended: str = ""
    unwanted: bool = False  # refused or taken over: come back later rather than at once
    taken_over: bool = False  # ended because the broker said so
    closed_in_order: bool = False  # ended because the broker closed, without a reset and not inside a packet
    opened_at: float = attrs.field(factory=time.monotonic)  # seconds, monotonic
    up_at: float = 0.0  # CONNACK, as above
    _client: PahoClient = attrs.field(init=False)
    _splitter: Splitter = attrs.field(init=False)
    _arrivals: Arrivals = attrs.field(factory=Arrivals)
    _deliveries: Deliveries = attrs.field(init=False)
    _events: list[BrokerEvent] = attrs.field(factory=list)
    _window: int = PUBLISH_WINDOW
    _publishing: dict[int, tuple[str, bytes]] = attrs.field(factory=dict)  # by packet id, without PUBACK

    def __attrs_post_init__(self) -> None:
        address, settings = self.address, self.settings
        self._client = PahoClient(self.sock, self._arrivals, settings, address.username, address.password)
        self._deliveries = Deliveries(self._arrivals, self.owed)
        self._splitter = Splitter(self._arrivals, settings.protocol == "5", PLAIN)

    def open(self) -> None:
        """Send CONNECT, for the session that we had."""
        client, address, wanted = self._client, self.address, self.settings
        if wanted.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho does not type it
            properties.SessionExpiryInterval = wanted.session_expiry_s
            properties.ReceiveMaximum = wanted.receive_maximum
            client.connect(address.host, address.port, wanted.keepalive_s, clean_start=False, properties=properties)
        else:
            client.connect(address.host, address.port, wanted.keepalive_s)

    # --- one turn of the thread ---

    @property
    def is_up(self) -> bool:
        """The broker has accepted us."""
        return self.epoch > 0

    def read(self) -> None:
        """Take what has come, at most about what one event holds."""
        sock = self.sock
        size = 0
        while not self.ended and size < EVENT_BYTES and len(self._arrivals.messages) < EVENT_MESSAGES:
            try:
                data = sock.receive()
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as error:
                self.end(f"connection lost: {error.strerror or error}")
                break
            if not data:
                self.closed_in_order = not self._splitter.inside_packet and not self._client.inside_packet
                self._explain_end(MQTTErrorCode.MQTT_ERR_CONN_LOST)
                break
            size += len(data)
            for_paho = self._splitter.split(data)
            if for_paho:
                sock.hand_on(for_paho)
                while sock.handed_on and not self.ended:
                    self._guard(self._client.loop_read)
            if len(data) < READ_BYTES and not sock.pending():
                break
        if self._arrivals.messages and not self.is_up:
            self._deliveries.take(0)
            self.end("protocol error: a message before CONNACK")

    def write(self) -> None:
        """Send what is due, in one call where it fits."""
        if self._client.want_write():
            self._guard(self._client.loop_write)
        if self.sock.unsent and not self.ended:
            try:
                self.sock.flush()
            except OSError as error:
                self.end(f"connection lost: {error.strerror or error}")

    def keep_alive(self, *, reading: bool) -> None:
        """Send PINGREQ when due. A PINGRESP is missed only while we read and hear nothing."""
        if self.sock.heard or not reading:
            self.sock.heard = False
            self._client.forgive_ping()
        self._guard(self._client.loop_misc)
        if reading and self.is_up and not self.ended:
            self.subscriptions.ask_more(self._client, time.monotonic())
        if not self.is_up and time.monotonic() - self.opened_at > CONNACK_TIMEOUT_S:
            self.end(f"no answer to CONNECT within {CONNACK_TIMEOUT_S:g} s (does the broker speak this protocol?)")

    def take(self) -> list[BrokerEvent]:
        """What happened since the last call, in order."""
        events = self._events
        events.extend(self._deliveries.take(self.epoch))
        self._events = []
        return events

    def acknowledge(self, packet_ids: tuple[int, ...]) -> None:
        """PUBACK them in this order, in one write; one that is not waiting for it is left out."""
        self.sock.add(self._deliveries.pubacks(packet_ids))

    def publish_from(self, waiting: deque[tuple[str, bytes]]) -> None:
        """Take as many (topic, payload) off the queue as the window allows."""
        while waiting and self.is_up and not self.ended and len(self._publishing) < self._window:
            topic, payload = waiting.popleft()
            try:
                info = self._client.publish(topic, payload, qos=1)
            except ValueError as error:
                log.error("cannot publish", topic=topic, error=str(error))
                continue
            self._publishing[info.mid] = (topic, payload)

    @property
    def got_back(self) -> bool:
        """What the connection before this one owed came again."""
        return self._deliveries.got_back

    @property
    def owes(self) -> int:
        """The oldest message without acknowledgement; 0: none."""
        return self._deliveries.oldest

    def unconfirmed(self) -> list[tuple[str, bytes]]:
        """Published without PUBACK: to be published again on the next connection."""
        return list(self._publishing.values())

    def end(self, reason: str) -> None:
        """Close at once. The first reason counts."""
        self.ended = self.ended or reason
        self.sock.close()

    def lost_while_held(self, *, in_order: bool) -> None:
        """The broker closed, while what it sent before is not read."""
        self.closed_in_order = in_order
        self.end("connection lost while held")

    def finish(self, wait: Wait) -> None:
        """Flush, MQTT DISCONNECT (the session stays: its expiry is the one of CONNECT), close when the broker did."""
        self._flush_all(wait, FLUSH_TIMEOUT_S)
        if self.is_up and not self.ended:
            self.sock.send(b"\xe0\x00")  # not by paho, which would close the socket at once
            self._flush_all(wait, FLUSH_TIMEOUT_S)
        if not self.ended:
            try:
                self.sock.half_close()
                deadline = time.monotonic() + LINGER_S
                while not self.sock.discard() and time.monotonic() < deadline:
                    wait(deadline - time.monotonic(), self.sock.fileno(), select.POLLIN)
            except OSError as error:
                log.debug("the broker closed before we did", error=str(error))
        self.end("disconnected")

    def _flush_all(self, wait: Wait, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        self.write()
        while not self.ended and (self.sock.unsent or self._client.want_write()):
            if time.monotonic() >= deadline:
                self.end("the broker does not read")
                return
            wait(deadline - time.monotonic(), self.sock.fileno(), select.POLLOUT)
            self.write()

    # --- paho ---

    def _guard(self, step: Callable[[], MQTTErrorCode]) -> None:
        """One call into paho, and what follows from it. A packet that breaks it breaks this connection only."""
        try:
            code = step()
        except PAHO_ERRORS as error:
            log.warning("paho failed on what the broker sent", error=f"{type(error).__name__}: {error}")
            self.end(f"protocol error: {type(error).__name__}: {error}")
            return
        if self._client.notes is not None:
            self._follow_up(self._client.notes)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or self._client.socket() is None:
            self._explain_end(code)

    def _follow_up(self, notes: Notes) -> None:
        self._client.notes = None
        if notes.connack is not None:
            self._answered(*notes.connack)
        for packet_id, reasons in notes.subacks:
            try:
                self._events.extend(self.subscriptions.granted(packet_id, reasons, time.monotonic()))
            except ValueError as error:
                self.end(f"protocol error: {error}")
                return
        for packet_id in notes.unsubacks:
            self.subscriptions.unsubscribed(packet_id)
        for packet_id, reason in notes.pubacks:
            topic, _payload = self._publishing.pop(packet_id)
            if reason.is_failure:
                log.error("the broker refused what we published", topic=topic, reason=str(reason))

    def _answered(self, session_present: bool, reason: ReasonCode, properties: Properties | None) -> None:
        if reason.is_failure:
            self.unwanted = True
            self.end(f"the broker refused us: {reason}")
            return
        self.epoch = next(self.epochs)
        self.up_at = time.monotonic()
        lost = not session_present and self.subscriptions.had_session
        self._events.append(Connected(self.epoch, session_present, lost))
        expiry_s = getattr(properties, "SessionExpiryInterval", self.settings.session_expiry_s)
        if expiry_s < self.settings.session_expiry_s:
            log.warning(
                "the broker keeps our session for less than asked",
                asked_s=self.settings.session_expiry_s,
                granted_s=expiry_s,
            )
        self._window = min(PUBLISH_WINDOW, getattr(properties, "ReceiveMaximum", PUBLISH_WINDOW))
        self.subscriptions.ask(self._client, session_present=session_present)

    def _explain_end(self, code: MQTTErrorCode) -> None:
        farewell = self._client.farewell
        if farewell is not None:
            if farewell.value == SESSION_TAKEN_OVER:
                self.unwanted = self.taken_over = True
            self.end(f"the broker disconnected us: {farewell}")
        elif self._client.unanswered:
            self.end(f"no answer from the broker for {self.settings.keepalive_s} s")
        else:
            what = "protocol error" if code == MQTTErrorCode.MQTT_ERR_PROTOCOL else "connection lost"
            self.end(what if self.is_up else f"{what} before CONNACK")
