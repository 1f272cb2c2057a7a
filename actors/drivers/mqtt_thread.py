"""The thread that owns paho: it dials, turns the connection, posts what comes, and comes back after trouble.

The trio side talks to it through `Orders` (plain values with one writer each, and queues) and rings the bell; it
answers by `run_sync_soon`, one batch a turn.
"""

from __future__ import annotations

import random
import select
import socket
import ssl
import time
from collections.abc import Callable
from itertools import count

import attrs
import trio

from actors.drivers.addresses import BrokerAddress
from actors.drivers.mqtt_connection import Connection
from actors.drivers.mqtt_drops import DropsQuestion
from actors.drivers.mqtt_orders import Orders
from actors.drivers.mqtt_rival import TIMES, Rival
from actors.drivers.mqtt_socket import CONNECT_TIMEOUT_S, Address, BufferedSocket, dial
from actors.drivers.mqtt_topics import RememberedTopics, Subscriptions
from actors.messages import BrokerEvent, Connected, Disconnected, MessagesArrived, TakenOver
from actors.settings import MqttSettings

TURN_S = 0.2
"""The thread asks at least this often whether it is cancelled, and whether a PINGREQ is due."""

GATHER_S = ((30, 0.020), (200, 0.008))
"""After fewer messages than the first number the thread lets more gather for so many seconds, unless the bell rings: at
1,000 a second waking up costs several times as much as a message. Shorter than core/batch.py's PATIENT_IDLE_S."""

MAX_UNTAKEN = 8
"""MessagesArrived that the reader has not taken: beyond it nothing is read."""

STEADY_S = 5.0
"""A connection that lived this long after its CONNACK ends a streak of failures."""

RETRY_S = (0.2, 2.0)
UNWANTED_RETRY_S = (1.0, 4.0)
"""First and longest wait before the next attempt; the second after a refusal, or when another client took over."""


class Stopped(Exception):
    """The link is to end: `disconnect()` was called while the thread was busy with something else."""


@attrs.define(eq=False)
class BrokerThread:
    """`run` is the thread. Owns the connection while there is one."""

    settings: MqttSettings
    address: BrokerAddress
    tls: ssl.SSLContext | None
    remembered: RememberedTopics
    rival: Rival
    epochs: count[int]
    orders: Orders
    token: trio.lowlevel.TrioToken
    post: Callable[[BrokerEvent], None]
    _connection: Connection | None = None
    _epoch: int = 0  # of the last connection that stood
    _drops: DropsQuestion = attrs.field(factory=DropsQuestion)
    _owed: int = 0  # by the last connection: see Deliveries
    _posted: int = 0  # MessagesArrived
    _failures: int = 0  # in a row
    _told: str = ""  # the reason that the reader knows; empty while a connection stands
    _retry_at: float = 0.0  # seconds, monotonic
    _gave_up: bool = False  # another client has won; there is nothing to do but to wait for the end
    _keep_alive_at: float = 0.0
    _rang: bool = False  # the bell may have been heard by somebody who did not look at the orders

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
                self._connection.end("stopped")

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
        orders = self.orders
        sock = connection.sock
        reading = self._may_read(connection)
        events = select.POLLOUT if sock.wants_write else 0
        if reading:
            events |= select.POLLIN
        elif orders.held:  # this may last: look whether the broker goes away. What it sent before is lost at QoS 0
            events |= select.POLLRDHUP
        timeout_s = 0.0 if self._rang or (reading and sock.pending()) else TURN_S
        self._rang = False
        ready = self._wait(timeout_s, sock.fileno() if events else -1, events)
        self._acknowledge(connection)
        connection.publish_from(orders.publishes)
        if reading and self._may_read(connection):
            if ready & ~select.POLLOUT or sock.pending():
                connection.read()
        elif not reading and ready & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
            connection.lost_while_held(in_order=not ready & select.POLLERR)
        connection.write()
        if orders.dropping:
            orders.dropping = False
            connection.end("dropped: too long without progress")
        now = time.monotonic()
        if now >= self._keep_alive_at:
            self._keep_alive_at = now + TURN_S
            connection.keep_alive(reading=reading)
        news = connection.take()
        self._post(news)
        if connection.ended:
            self._lost(connection)
        elif gather_s := _gather_s(sum(len(event.messages) for event in news if isinstance(event, MessagesArrived))):
            self._wait(gather_s)
            self._rang = True

    def _may_read(self, connection: Connection) -> bool:
        """Not while held or while the reader is behind; but CONNACK must be read to say so much as CONNECT."""
        orders = self.orders
        orders.starved = True  # before looking: a taken() in between must ring
        if self._posted - orders.taken <= MAX_UNTAKEN:
            orders.starved = False
        return not connection.is_up or not (orders.held or orders.starved)

    def _acknowledge(self, connection: Connection) -> None:
        acks = self.orders.acks
        while acks:
            epoch, packet_ids = acks.popleft()
            if epoch == connection.epoch and not connection.ended:
                connection.acknowledge(packet_ids)

    def _connect(self) -> None:
        self.rival.judge()
        self._gave_up = self.rival.won
        if self._gave_up:
            self._post([TakenOver(self.settings.client_id, TIMES, STEADY_S)])
            return
        try:
            sock = self._dial(self.tls)
        except (OSError, trio.TooSlowError) as error:
            self.rival.forget()
            self._failed(_explain(error), UNWANTED_RETRY_S if isinstance(error, ssl.SSLError) else RETRY_S)
            return
        self._connection = connection = Connection(
            sock,
            self.address,
            self.settings,
            Subscriptions(self.settings.topics, self.settings.qos, self.remembered, self._drops),
            self.epochs,
            self._owed,
        )
        self.orders.dropping = False  # asked for while there was nothing to drop
        connection.open()
        connection.write()

    def _dial(self, tls: ssl.SSLContext | None) -> BufferedSocket:
        """Raises OSError or TooSlowError; Cancelled or Stopped."""
        addresses = trio.from_thread.run(_resolve, self.address.host, self.address.port)
        return dial(addresses, self.address.host, tls, self._wait)

    def _lost(self, connection: Connection) -> None:
        self._connection = None
        self.orders.publishes.extendleft(reversed(connection.unconfirmed()))
        self._owed = connection.owes
        steady = connection.is_up and time.monotonic() - connection.up_at >= STEADY_S
        if steady:
            self._failures = 0
        self._failed(connection.ended, UNWANTED_RETRY_S if connection.unwanted else RETRY_S)
        if steady or not connection.is_up:
            self.rival.forget()
        elif connection.taken_over:
            self.rival.named()
        else:
            if connection.got_back:
                self.rival.forget()
            if connection.closed_in_order:
                self.rival.doubt(lambda: self._dial(None))

    def _failed(self, reason: str, retry_s: tuple[float, float]) -> None:
        """Tell the reader, unless it knows already; choose when to try again."""
        if reason != self._told:
            self._told = reason
            self._post([Disconnected(self._epoch, reason)])
        first, longest = retry_s
        wait_s = min(longest, first * 2 ** min(self._failures, 16))
        self._failures += 1
        self._retry_at = time.monotonic() + max(first, wait_s * random.uniform(0.5, 1.0))

    def _post(self, events: list[BrokerEvent]) -> None:
        if not events:
            return
        for event in events:
            if isinstance(event, MessagesArrived):
                self._posted += 1
            elif isinstance(event, Connected):
                self._epoch = event.epoch
                self._told = ""
        self.token.run_sync_soon(self._deliver, events)

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
        trio.from_thread.check_cancelled()
        ready = self.orders.bell.wait(min(timeout_s, TURN_S), fd, events)
        trio.from_thread.check_cancelled()
        return ready


def _gather_s(messages: int) -> float:
    return next((seconds for few, seconds in GATHER_S if 0 < messages < few), 0.0)


async def _resolve(host: str, port: int) -> list[tuple[int, Address]]:
    """On the trio side, which can leave a name server that does not answer."""
    with trio.fail_after(CONNECT_TIMEOUT_S):
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _type, _proto, _name, address in found]


def _explain(error: OSError | trio.TooSlowError) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"the name server did not answer within {CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate: {error.verify_message}"
    return f"cannot connect: {error.strerror or error}"
