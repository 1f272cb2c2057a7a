"""One connection to the broker: from CONNECT over CONNACK and SUBACK to its end. Used by the driver's thread only.

What paho raises (PAHO_ERRORS) is about what the broker sent: it is logged and ends this connection, nothing more.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable
from itertools import count

import attrs
import structlog
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from actors.core.addresses import Address
from actors.mqtt.deliveries import EVENT_BYTES, EVENT_MESSAGES, NOTHING, Deliveries, Owed
from actors.mqtt.end import Ending, How
from actors.mqtt.events import BrokerEvent, Connected
from actors.mqtt.outgoing import WINDOW, Outgoing
from actors.mqtt.paho import PAHO_ERRORS, Notes, PahoClient
from actors.mqtt.socket import BufferedSocket, Wait
from actors.mqtt.splitter import Arrivals, Splitter
from actors.mqtt.subscriptions import Subscriptions
from actors.settings.load import MqttSettings, Secret

log = structlog.get_logger("mqtt")

CONNACK_TIMEOUT_S = 10.0
"""For SUBACK too, while nothing else comes."""
FLUSH_TIMEOUT_S = 2.0
"""For what was posted before disconnect()."""
LINGER_S = 1.0
"""For the broker to close after our DISCONNECT: closing first, with unread data, would reset the connection and
could destroy the last acknowledgements on their way."""

DISCONNECT = b"\xe0\x00"  # not by paho, which would close the socket at once

PLAIN = False
"""True leaves every packet to paho, three times slower: for a broker whose PUBLISH the splitter does not understand."""


@attrs.define(eq=False)
class BrokerConnection:
    """Owns the socket and paho, from `open` until `ended` says why it is over."""

    sock: BufferedSocket
    node: Address  # where it goes to
    login: tuple[str, Secret]  # user name, empty: anonymous; password
    settings: MqttSettings  # `protocol` is 5 or 3.1.1
    subscriptions: Subscriptions
    outgoing: Outgoing
    epochs: count[int]  # the next one is ours as soon as the broker has accepted us
    is_question: bool  # whether the broker answers is all that we want to know
    patience_s: float  # for CONNACK, when that is less than CONNACK_TIMEOUT_S
    owed: Owed = (0, NOTHING)  # by the one before
    epoch: int = 0  # 0 until accepted
    ended: Ending | None = None
    opened_at: float = attrs.field(factory=time.monotonic)  # seconds, monotonic
    up_at: float = 0.0  # CONNACK, as above
    _client: PahoClient = attrs.field(init=False)
    _splitter: Splitter = attrs.field(init=False)
    _arrivals: Arrivals = attrs.field(factory=Arrivals)
    _deliveries: Deliveries = attrs.field(init=False)
    _events: list[BrokerEvent] = attrs.field(factory=list)
    _accepted: bool = False
    _waiting_since: float = attrs.field(factory=time.monotonic)  # for an answer; messages begin it anew
    _came: bool = False  # some, since that was looked at
    _lost: str = "connection lost"  # how an end is called that nobody explains

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self._client = PahoClient(self.sock, self._arrivals, settings, *self.login)
        self._deliveries = Deliveries(self._arrivals, self.owed)
        self._splitter = Splitter(self._arrivals, settings.protocol == "5", PLAIN)

    def open(self) -> None:
        """Send CONNECT, for the session that we had."""
        self._client.open(self.node.host, self.node.port)

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
                self.end(How.LOST, f"{self._lost}: {error.strerror or error}")
                break
            if not data:
                inside_packet = self._splitter.inside_packet or self._client.inside_packet
                self._explain_end(How.LOST if inside_packet else How.CLOSED)
                break
            size += len(data)
            for_paho = self._splitter.split(data)
            if for_paho:
                sock.hand_on(for_paho)
                while sock.handed_on and not self.ended:
                    self._guard(self._client.loop_read)
            if not sock.may_have_more(len(data)):
                break
        if self._arrivals.messages and not self.is_up:
            self._deliveries.take(0)
            self.end(How.OURS, "protocol error: a message before CONNACK")

    def write(self) -> None:
        """Send what is due, in one call where it fits."""
        if self._client.want_write():
            self._guard(self._client.loop_write)
        if self.sock.unsent and not self.ended:
            try:
                self.sock.flush()
            except OSError as error:
                self.end(How.LOST, f"connection lost: {error.strerror or error}")

    def keep_alive(self, *, reading: bool) -> None:
        """Send PINGREQ when due. A PINGRESP is missed only while we read and hear nothing."""
        if self.sock.heard or not reading:
            self.sock.heard = False
            self._client.forgive_ping()
        self._guard(self._client.loop_misc)
        now = time.monotonic()
        if self.is_up and reading and not self.ended:
            self.subscriptions.ask_more(self._client, now)
        self._await_answer(now, reading)

    def _await_answer(self, now: float, reading: bool) -> None:
        """To CONNECT, and to SUBSCRIBE, before which many messages may come."""
        asked, longest_s = self.subscriptions.asked, CONNACK_TIMEOUT_S
        if not self.is_up:
            longest_s = min(longest_s, self.patience_s)
        elif self._came or not reading or not asked:
            self._came, self._waiting_since = False, now
        if now - self._waiting_since > longest_s:
            what = f"SUBSCRIBE to {', '.join(asked)}" if self.is_up else "CONNECT"
            self.end(How.SILENT, f"no answer to {what} within {longest_s:g} s")

    def take(self, waited_s: float = 0.0) -> list[BrokerEvent]:
        """What happened since the last call, in order. `waited_s`: see MessagesArrived."""
        events, self._events = self._events, []
        arrived = self._deliveries.take(self.epoch, waited_s)
        self._came |= bool(arrived)
        return [*events, *arrived]

    def acknowledge(self, packet_ids: tuple[int, ...]) -> None:
        """PUBACK them in this order, in one write; one that is not waiting for it is left out."""
        self.sock.add(self._deliveries.pubacks(packet_ids))

    def publish(self) -> None:
        """What is due."""
        outgoing = self.outgoing
        while self.is_up and not self.ended:
            message = outgoing.next(time.monotonic(), subscribed=not self.subscriptions.asked)
            if message is None:
                break
            try:
                info = self._client.publish(message.topic, message.payload, qos=1)
            except ValueError as error:
                outgoing.drop(message.topic, f"cannot be published: {error}")
            else:
                outgoing.sent(info.mid, message)

    @property
    def got_back(self) -> bool:
        """What the connection before this one owed, or acknowledged in vain, came again."""
        return self._deliveries.got_back

    @property
    def owes(self) -> Owed:
        """What may come again."""
        return self._deliveries.oldest, self._deliveries.acknowledged

    def end(self, how: How, text: str, code: int = 0) -> None:
        """Close at once. The first reason counts."""
        if self.ended is None:
            asked, refused = self.subscriptions.asked, self.subscriptions.refused
            self.ended = Ending(how, text, code, self._accepted, asked, refused, self.outgoing.oldest_topic)
        self.sock.close()

    def lost_while_held(self) -> None:
        """The broker closed while we did not read. Look for answers in what it sent last; messages are left out, it
        keeps them for us, but for those of QoS 0."""
        self._lost = "connection lost while held"
        arrivals = self._arrivals
        while not self.ended:
            self.sock.heard = False
            self.read()
            if self.owed[0] and self.owed[0] in arrivals.packet_ids:
                self._deliveries.got_back = True
            arrivals.messages, arrivals.packet_ids = [], []
            if not self.sock.heard:
                self.end(How.LOST, self._lost)

    def finish(self, wait: Wait) -> None:
        """Flush, MQTT DISCONNECT (the session stays: its expiry is the one of CONNECT), close when the broker did."""
        self._flush_all(wait, FLUSH_TIMEOUT_S)
        if self.is_up and not self.ended:
            self.sock.send(DISCONNECT)
            self._flush_all(wait, FLUSH_TIMEOUT_S)
        if not self.ended:
            try:
                self.sock.half_close()
                deadline = time.monotonic() + LINGER_S
                while not self.sock.discard() and time.monotonic() < deadline:
                    wait(deadline - time.monotonic(), self.sock.fileno(), select.POLLIN)
            except OSError as error:
                log.debug("the broker closed before we did", error=str(error))
        self.end(How.OURS, "disconnected")

    def _flush_all(self, wait: Wait, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        self.write()
        while not self.ended and (self.sock.unsent or self._client.want_write()):
            if time.monotonic() >= deadline:
                self.end(How.SILENT, "the broker does not read")
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
            self.end(How.GARBLED, f"protocol error: {type(error).__name__}: {error}")
            return
        if self._client.notes is not None:
            self._follow_up(self._client.notes)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or self._client.socket() is None:
            self._explain_end(How.GARBLED if code == MQTTErrorCode.MQTT_ERR_PROTOCOL else How.LOST)

    def _follow_up(self, notes: Notes) -> None:
        self._client.notes = None
        if notes.connack is not None:
            self._answered(*notes.connack)
        for packet_id, reasons in notes.subacks:
            try:
                self._events.extend(self.subscriptions.answered(packet_id, reasons, time.monotonic()))
            except ValueError as error:
                self.end(How.GARBLED, f"protocol error: {error}")
                return
        for packet_id in notes.unsubacks:
            self._events.extend(self.subscriptions.unsubscribed(packet_id))
        for packet_id, reason in notes.pubacks:
            self.outgoing.acknowledged(packet_id, str(reason) if reason.is_failure else "")

    def _answered(self, session_present: bool, reason: ReasonCode, properties: Properties | None) -> None:
        if reason.is_failure:
            self.end(How.REFUSED, f"the broker refused us: {reason}", reason.value)
            return
        self._accepted = True
        if self.is_question:
            self.sock.send(DISCONNECT)
            self.write()
            self.end(How.OURS, f"the broker answers to MQTT {self.settings.protocol}")
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
        self.outgoing.window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self.subscriptions.ask(self._client, session_present=session_present)

    def _explain_end(self, how: How) -> None:
        farewell = self._client.farewell
        if farewell is not None:
            self.end(How.SAID, f"the broker disconnected us: {farewell}", farewell.value)
        elif self._client.unanswered:
            self.end(How.SILENT, f"no answer from the broker for {self.settings.keepalive_s} s")
        else:
            what = "protocol error" if how is How.GARBLED else self._lost
            self.end(how, what if self._accepted else f"{what} before CONNACK")
