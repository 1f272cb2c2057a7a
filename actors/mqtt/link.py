"""The MQTT driver as the reader sees it: a link to the broker that stays, whatever happens to its connections.

Everything here is called on the trio side and posts to the one thread that owns paho (thread.py), which turns
one connection after the other (connection.py, on paho.py and socket.py).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from itertools import count
from pathlib import Path

import attrs
import trio

from actors.core.addresses import BrokerAddress as BrokerAddress
from actors.core.errors import NotStarted
from actors.core.share import shared_filter
from actors.mqtt.attempts import Attempts
from actors.mqtt.events import BrokerEvent, ReceiptsDropped
from actors.mqtt.forgetting import end_session
from actors.mqtt.orders import MAX_PUBLISHES, Orders, Stopped
from actors.mqtt.pace import LEAST_S, Pace
from actors.mqtt.probing import Probing
from actors.mqtt.rival import Rival
from actors.mqtt.socket import tls_context
from actors.mqtt.subscriptions import RememberedTopics, TopicMemory, has_shared
from actors.mqtt.thread import BrokerThread
from actors.mqtt.version import Version
from actors.settings.load import MqttSettings


class MqttLink:
    """One for each run of the daemon, so that epochs never repeat; `run` again after a crash of the reader."""

    def __init__(
        self,
        settings: MqttSettings,
        address: BrokerAddress,
        data_dir: Path,
        gather_s: float = LEAST_S,
        shared_group: str = "",
        remembered: TopicMemory | None = None,
    ) -> None:
        """`data_dir` exists; it holds the list of subscriptions, where they are not `remembered` elsewhere. The address
        comes from the caller, `broker_url` is not looked at. `gather_s`: see pace.py. `shared_group`: of the nodes that
        read in turns; empty: we read all."""
        self._settings = settings
        self._group = shared_group
        self._shares = not shared_group  # or the broker was asked, in this process
        self._filters = tuple(shared_filter(shared_group, each) if shared_group else each for each in settings.topics)
        self._address = address
        self._remembered = remembered or RememberedTopics(data_dir, settings.client_id)
        self._rival = Rival()
        self._version = Version(settings.protocol)
        self._attempts = Attempts(address.nodes)
        self._pace = Pace(gather_s)
        self._epochs = count(1)
        self._limiter = trio.CapacityLimiter(1)
        self._orders: Orders | None = None  # while run() runs
        self._post: Callable[[BrokerEvent], None] = lambda _event: None
        self._ended = trio.Event()
        self._not_forgotten = ""

    async def run(
        self, post: Callable[[BrokerEvent], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Stay connected until cancelled or until disconnect() is through.

        `post` is called on the trio side and must not raise. An unreachable broker is no error: Disconnected is
        posted, once for each reason in a row of failures. It tries no more, and posts so, when it is thrown out by
        another client again and again (TakenOver), and when the broker does not deliver what is shared (CannotShare).
        Cancelling closes the connection within TURN_S (0.2 s) without MQTT DISCONNECT. Raises NotStarted when the TLS
        files cannot be used.
        """
        tls = _tls_context(self._settings) if any(node.tls for node in self._address.nodes) else None
        orders = self._orders = Orders()
        self._ended = trio.Event()
        token = trio.lowlevel.current_trio_token()
        self._post = post
        probing = Probing(
            self._settings,
            self._address,
            tls,
            self._group,
            has_shared(self._remembered, self._group, self._settings.topics),
            orders,
            token,
            post,
            self._version,
            self._attempts,
        )
        thread = BrokerThread(
            self._settings,
            self._filters,
            self._address,
            tls,
            self._remembered,
            self._rival,
            self._epochs,
            orders,
            token,
            post,
            self._version,
            self._attempts,
            self._pace,
            bool(self._group),
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ring_when_cancelled, orders)
                task_status.started()
                await trio.to_thread.run_sync(self._turn, probing, thread, thread_name="mqtt", limiter=self._limiter)
                nursery.cancel_scope.cancel()
        finally:
            self._orders = None
            orders.bell.close()
            self._ended.set()

    def _turn(self, probing: Probing, thread: BrokerThread) -> None:
        """The thread."""
        try:
            self._shares = self._shares or probing.run()
        except Stopped:
            return
        if not self._shares:
            probing.wait_for_the_end()
            return
        thread.run()
        if thread.orders.forgetting:
            settings = attrs.evolve(self._settings, protocol=self._version.speaks)
            login = (self._address.username, self._address.password)
            wait = thread.orders.bell.wait
            self._not_forgotten = end_session(settings, self._address.nodes, login, thread.tls, wait)
            if not self._not_forgotten:
                self._remembered.write(frozenset(), granted=False)

    def begin_anew(self) -> None:
        """Before a `run`: that another client threw us out does not count any more."""
        self._rival.forget()

    def taken(self) -> None:
        """The reader has processed one MessagesArrived."""
        orders = self._orders
        if orders is not None:
            orders.taken += 1
            if orders.starved:
                orders.bell.ring()

    def acknowledge(self, epoch: int, packet_ids: tuple[int, ...]) -> None:
        """Send PUBACKs, in the order of the calls. Those of an epoch that is over are dropped."""
        orders = self._orders
        if orders is not None:
            orders.acks.append((epoch, packet_ids))
            orders.bell.ring()

    def hold(self, on: bool) -> None:
        """Stop, or go on, reading the socket. It holds over reconnects until hold(False); a new run starts without."""
        orders = self._orders
        if orders is not None:
            orders.held = on
            orders.bell.ring()

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish a receipt at QoS 1, not retained; kept over reconnects. Of more than MAX_PUBLISHES the oldest is
        dropped, as are those at which the broker ends the connection: ReceiptsDropped is posted."""
        orders = self._orders
        if orders is None:
            return
        if len(orders.publishes) == MAX_PUBLISHES:
            self._post(ReceiptsDropped(1, orders.publishes[0][0], f"{MAX_PUBLISHES} others wait to be published"))
        orders.publishes.append((topic, payload))
        orders.bell.ring()

    def reconnect(self) -> None:
        """Drop the connection, as if it were lost, and connect anew."""
        orders = self._orders
        if orders is not None:
            orders.dropping = True
            orders.bell.ring()

    def leave(self) -> None:
        """Unsubscribe from everything, once the broker has granted it: Unsubscribed is posted, with a number that
        counts the calls. What the session holds goes on coming. Over a reconnect it is done anew."""
        orders = self._orders
        if orders is not None:
            orders.leaving += 1
            orders.bell.ring()

    async def end_session(self) -> str:
        """As disconnect(), and have the broker forget the session with whatever it holds; why it did not, or empty.

        Takes some seconds more a node of the broker at most.
        """
        orders = self._orders
        if orders is None:
            return "not connected"
        orders.forgetting = True
        await self.disconnect()
        return self._not_forgotten

    async def disconnect(self) -> None:
        """Flush the acknowledgements given so far, MQTT DISCONNECT (the session stays), close; then run() returns.

        Takes at most about 5 s with a broker that hangs. Returns at once when run() is not running.
        """
        orders = self._orders
        if orders is not None:
            orders.finishing = True
            orders.bell.ring()
            await self._ended.wait()


async def _ring_when_cancelled(orders: Orders) -> None:
    """The thread looks whether it is cancelled when the bell rings."""
    try:
        await trio.sleep_forever()
    finally:
        orders.bell.ring()


def _tls_context(settings: MqttSettings) -> ssl.SSLContext:
    try:
        return tls_context(settings)
    except OSError as error:
        files = ", ".join(str(path) for path in (settings.ca_file, settings.cert_file, settings.key_file) if path)
        raise NotStarted(f"[mqtt] ca_file, cert_file, key_file ({files}) cannot be used: {error}") from error
