"""The thread that owns paho: it dials, turns the connection, posts what comes, and comes back after trouble.

Nobody else may call paho: acknowledgements from a second thread corrupted half of the packets.

The trio side talks to it through `Orders` (plain values with one writer each, and queues) and rings the bell; it
answers by `run_sync_soon`, one batch a turn (waiting for trio each time would cost ten times as much).
"""

from __future__ import annotations

import random
import select
import ssl
import time
from collections.abc import Callable
from itertools import count

import attrs
import structlog
import trio

from actors.core.addresses import Address as Node
from actors.core.addresses import BrokerAddress
from actors.mqtt.attempts import Attempts
from actors.mqtt.connection import BrokerConnection
from actors.mqtt.deliveries import NOTHING, Owed
from actors.mqtt.dialling import dial_node, why_not
from actors.mqtt.drops import DropsQuestion
from actors.mqtt.end import Ending, How
from actors.mqtt.events import BrokerEvent, Connected, Disconnected, MessagesArrived, ReceiptsDropped, TakenOver
from actors.mqtt.orders import Orders, Stopped
from actors.mqtt.outgoing import Outgoing
from actors.mqtt.pace import Pace
from actors.mqtt.rival import TIMES, Rival
from actors.mqtt.socket import BufferedSocket
from actors.mqtt.subscriptions import Subscriptions, TopicMemory
from actors.mqtt.version import Heard, Version
from actors.settings.load import MqttSettings

log = structlog.get_logger("mqtt")

TURN_S = 0.2
"""The thread asks at least this often whether it is cancelled, and whether a PINGREQ is due."""

MAX_UNTAKEN = 8
"""MessagesArrived that the reader has not taken: beyond it nothing is read."""

STEADY_S = 5.0
"""A connection that lived this long after its CONNACK ends a streak of failures."""

RETRY_S = (0.2, 2.0)
UNWANTED_RETRY_S = (1.0, 4.0)
"""First and longest wait before the next attempt; the second after a refusal, or when another client took over."""
SHARED_RETRY_S = (0.2, 0.2)
"""The first, of nodes that share: mosquitto 2.0.11 forgets shared subscriptions when it restarts, and what trackers
publish until one of us is back is gone."""


@attrs.define(eq=False)
class BrokerThread:
    """`run` is the thread. Owns the connection while there is one."""

    settings: MqttSettings
    filters: tuple[str, ...]  # of `[mqtt] topics`, as they are subscribed to
    address: BrokerAddress
    tls: ssl.SSLContext | None
    remembered: TopicMemory
    rival: Rival
    epochs: count[int]
    orders: Orders
    token: trio.lowlevel.TrioToken
    post: Callable[[BrokerEvent], None]
    version: Version
    attempts: Attempts
    pace: Pace
    shares: bool  # with other nodes
    _outgoing: Outgoing = attrs.field(init=False)
    _connection: BrokerConnection | None = None
    _epoch: int = 0  # of the last connection that stood
    _drops: DropsQuestion = attrs.field(factory=DropsQuestion)
    _owed: Owed = (0, NOTHING)  # by the last connection
    _posted: int = 0  # MessagesArrived
    _retry_at: float = 0.0  # seconds, monotonic
    _said_old: bool = False  # that MQTT 3.1.1 is spoken
    _gave_up: bool = False  # another client has won; there is nothing to do but to wait for the end
    _keep_alive_at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self._outgoing = Outgoing(self.orders.publishes)

    def run(self) -> None:
        """Until `orders.finishing` or cancelled (raises Cancelled)."""
        try:
            while not self.orders.finishing:
                try:
                    self._turn()
                except Stopped:
                    break
            if self._connection is not None:
                self._acknowledge(self._connection)
                self._connection.finish(self._wait_only)
        finally:
            self.rival.close()
            if self._connection is not None:
                self._connection.end(How.OURS, "stopped")

    def _turn(self) -> None:
        connection = self._connection
        if connection is None:
            left = self._retry_at - time.monotonic()
            if self._gave_up:
                self._wait(TURN_S)
            elif left > 0:
                self._wait(left)
            else:
                self._connect()
            return
        orders, pace = self.orders, self.pace
        sock = connection.sock
        reading = self._may_read(connection)
        pause_s = pace.left_s(time.monotonic()) if reading else 0.0
        events = select.POLLOUT if sock.wants_write else 0
        if reading and not pause_s:
            events |= select.POLLIN
        elif orders.held:  # this may last: look whether the broker goes away. What it sent before is lost at QoS 0
            events |= select.POLLRDHUP
        timeout_s = 0.0 if reading and not pause_s and sock.pending() else pause_s or TURN_S
        ready = self._wait(timeout_s, sock.fileno() if events else -1, events)
        if self._acknowledge(connection) and pause_s and not sock.readable():
            pace.go_on()  # the broker may be waiting for just these
        connection.publish()
        began = time.monotonic()
        came = ready & ~select.POLLOUT or sock.pending() or pause_s
        read = reading and bool(came) and not pace.left_s(began) and self._may_read(connection)
        if read:
            connection.read()
        elif not reading and ready & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
            connection.lost_while_held()
        connection.write()
        if orders.dropping:
            orders.dropping = False
            connection.end(How.OURS, "dropped: too long without progress")
        now = time.monotonic()
        connection.subscriptions.leaving = orders.leaving
        if now >= self._keep_alive_at:
            self._keep_alive_at = now + TURN_S
            connection.keep_alive(reading=reading)
        news = connection.take(pace.waited_s(began))
        if read:
            pace.read(sum(event.payload_bytes for event in news if isinstance(event, MessagesArrived)), began)
        dropped = self._outgoing.take_dropped()
        if dropped is not None:
            news.append(ReceiptsDropped(dropped.count, dropped.topic, dropped.reason))
        self._post(news)
        if connection.ended:
            self._lost(connection, connection.ended)

    def _may_read(self, connection: BrokerConnection) -> bool:
        """Not while held or while the reader is behind; but CONNACK must be read to say so much as CONNECT."""
        orders = self.orders
        orders.starved = True  # before looking: a taken() in between must ring
        if self._posted - orders.taken <= MAX_UNTAKEN:
            orders.starved = False
        return not connection.is_up or not (orders.held or orders.starved)

    def _acknowledge(self, connection: BrokerConnection) -> bool:
        """Whether there was something."""
        acks = self.orders.acks
        some = bool(acks)
        while acks:
            epoch, packet_ids = acks.popleft()
            if epoch == connection.epoch and not connection.ended:
                connection.acknowledge(packet_ids)
        return some

    def _connect(self) -> None:
        self.rival.decide()
        self._gave_up = self.rival.won
        if self._gave_up:
            self._post([TakenOver(self.settings.client_id, TIMES, STEADY_S)])
            return
        node = self.attempts.node
        try:
            sock = self._dial(node, self.tls if node.tls else None)
        except (OSError, trio.TooSlowError) as error:
            self.rival.forget()
            self.version.heard(Heard.UNREACHED)
            self._failed(why_not(error), UNWANTED_RETRY_S if isinstance(error, ssl.SSLError) else self._retry_s)
            return
        self._connection = connection = BrokerConnection(
            sock,
            node,
            (self.address.username, self.address.password),
            attrs.evolve(self.settings, protocol=self.version.speaks),
            Subscriptions(self.filters, self.settings.qos, self.remembered, self._drops),
            self._outgoing,
            self.epochs,
            self.version.is_question,
            self.version.patience_s,
            self._owed,
        )
        self.orders.dropping = False  # asked for while there was nothing to drop
        self.pace.go_on()
        connection.open()
        connection.write()

    def _dial(self, node: Node, tls: ssl.SSLContext | None) -> BufferedSocket:
        """Raises OSError or TooSlowError; Cancelled or Stopped."""
        return dial_node(node, tls, self._wait)

    def _lost(self, connection: BrokerConnection, ending: Ending) -> None:
        self._connection = None
        now = time.monotonic()
        steady = connection.is_up and now - connection.up_at >= STEADY_S
        if self.version.heard(ending.heard, now - connection.opened_at):
            self._retry_at = 0.0
        else:
            if steady:
                self.attempts.lasted()
            reason = ending.reason + self.version.hint(ending.heard)
            self._failed(reason, UNWANTED_RETRY_S if ending.unwanted else self._retry_s)
        self._owed = connection.owes
        self._outgoing.ended(blamed=ending.blames_publish, now=now)
        self._doubt(connection, ending, steady=steady)

    def _doubt(self, connection: BrokerConnection, ending: Ending, *, steady: bool) -> None:
        """Was it another client?"""
        if steady or not connection.is_up:
            self.rival.forget()
        elif ending.names_rival:
            self.rival.named()
        else:
            if connection.got_back:
                self.rival.forget()
            if ending.could_be_rival:
                self.rival.doubt(connection.node, lambda: self._dial(connection.node, None))

    @property
    def _retry_s(self) -> tuple[float, float]:
        return SHARED_RETRY_S if self.shares else RETRY_S

    def _failed(self, reason: str, retry_s: tuple[float, float]) -> None:
        """Tell the reader, unless it knows already; choose when to try again."""
        news = self.attempts.news(reason)
        if news:
            self._post([Disconnected(self._epoch, news)])
        self._retry_at = time.monotonic() + self.attempts.failed(*retry_s, random.random())

    def _post(self, events: list[BrokerEvent]) -> None:
        if not events:
            return
        for event in events:
            if isinstance(event, MessagesArrived):
                self._posted += 1
            elif isinstance(event, Connected):
                self._epoch = event.epoch
                self.attempts.worked()
                self._say_what_is_spoken()
        self.token.run_sync_soon(self._deliver, events)

    def _say_what_is_spoken(self) -> None:
        if self.version.speaks == "3.1.1" and not self._said_old:
            self._said_old = True
            log.info(
                "MQTT 3.1.1 has no session_expiry_s and no receive_maximum: the broker's own settings count",
                broker_has_mqtt_5="no" if self.version.fell_back else "not asked",
            )

    def _deliver(self, events: list[BrokerEvent]) -> None:
        for event in events:
            self.post(event)

    def _wait(self, timeout_s: float, fd: int = -1, events: int = 0) -> int:
        """Raises Cancelled or Stopped."""
        ready = self._wait_only(timeout_s, fd, events)
        if self.orders.finishing:
            raise Stopped
        return ready

    def _wait_only(self, timeout_s: float, fd: int = -1, events: int = 0) -> int:
        return self.orders.bell.wait(min(timeout_s, TURN_S), fd, events)
