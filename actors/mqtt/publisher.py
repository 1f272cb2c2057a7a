"""Publishes for the commands (replay, simulate, demo): QoS 1, until the broker has acknowledged every message.

A connection is one paho client with a clean session, turned by one thread. What is unacknowledged belongs to the
Publisher and not to paho: when a connection ends, it is sent again on the next one, in its order. The daemon knows a
fix that comes twice by its id.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

import attrs
import structlog
import trio

from actors.core.addresses import Address, from_here
from actors.core.broker_url import broker_addresses
from actors.core.errors import TrackingError
from actors.core.topic_filter import receipt_filter
from actors.mqtt.bell import Bell
from actors.mqtt.publisher_connection import Broker, Ear, Ended, PublisherConnection
from actors.mqtt.socket import tls_context
from actors.mqtt.version import Version
from actors.settings.load import MqttSettings
from actors.settings.values import bind_address

log = structlog.get_logger("publisher")

OUTSTANDING = 2000
"""Messages handed over and not yet acknowledged; beyond it publish() waits."""

GIVE_UP_S = 15.0
"""Without ever having had a connection. Once there was one, the broker is waited for without end."""

RETRY_S = 1.0

FRUITLESS = 5
"""Connections in a row that ended without one acknowledgement, while messages waited: the broker takes us but not
what we say, so going on would be for ever."""


class PublishFailed(TrackingError):
    """The broker cannot be reached, does not let us in, or refuses what we publish."""


def addresses_of(mqtt: MqttSettings) -> tuple[Address, ...]:
    """Where the nodes of the broker of these settings listen, seen from this machine."""
    if mqtt.broker_url != "embedded":
        return broker_addresses(mqtt.broker_url)
    bound = bind_address(mqtt.embedded_bind)
    return (attrs.evolve(bound, host=from_here(bound.host)),)


def _brokers(mqtt: MqttSettings) -> tuple[Broker, ...]:
    addresses = addresses_of(mqtt)
    tls = None
    if any(address.tls for address in addresses):
        try:
            tls = tls_context(mqtt)
        except OSError as error:
            raise PublishFailed(f"ca_file, cert_file or key_file cannot be used: {error}") from error
    return tuple(
        Broker(at.host, at.port, tls if at.tls else None, mqtt.username, mqtt.password, mqtt.keepalive_s)
        for at in addresses
    )


@attrs.define(eq=False)
class Publisher:
    """Made by `open_publisher`. Used from trio; the fields below `_queue` belong to the thread."""

    brokers: tuple[Broker, ...]  # nodes of one, tried in turn
    version: Version
    ear: Ear | None = None  # told in the thread
    limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))
    acknowledged: int = 0  # messages, refused ones not among them
    unheard: int = 0  # acknowledged with "no matching subscribers": nobody got them (MQTT 5 only)
    refused: int = 0
    refusal: str = ""  # what the broker said the first time
    reconnects: int = 0
    sent: int = 0  # handed over by publish()
    _failure: str = ""
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _bell: Bell = attrs.field(factory=Bell)
    _token: trio.lowlevel.TrioToken = attrs.field(factory=trio.lowlevel.current_trio_token)
    _queue: deque[tuple[str, bytes]] = attrs.field(factory=deque)  # trio appends, the thread pops
    _at: int = 0  # which of the nodes
    _ever_up: bool = False
    _fruitless: int = 0
    _since: float = attrs.field(factory=time.monotonic)

    # --- from trio ---

    @property
    def outstanding(self) -> int:
        """Messages that the broker has not answered yet."""
        return self.sent - self.acknowledged - self.refused

    async def publish(self, topic: str, payload: bytes) -> None:
        """Hand over one message; waits while OUTSTANDING are unanswered. Raises PublishFailed.

        A checkpoint only when it waits: at full speed that is often enough.
        """
        if self._failure or self.outstanding >= OUTSTANDING:
            await self._until_below(OUTSTANDING)
        self.sent += 1
        self._queue.append((topic, payload))
        self._bell.ring()

    async def drain(self) -> None:
        """Wait until every message is acknowledged. Raises PublishFailed, also when some were refused."""
        await self._until_below(1)
        if self.refused:
            raise PublishFailed(f"the broker refused {self.refused} messages: {self.refusal}")

    async def progress(self) -> None:
        """Wait for the next answers of the broker."""
        await self._changed.wait()

    async def _until_below(self, count: int) -> None:
        while self.outstanding >= count and not self._failure:
            await self._changed.wait()
        if self._failure:
            raise PublishFailed(self._failure)
        await trio.lowlevel.checkpoint()

    def wake(self) -> None:
        """Let the thread look up, to see that it is cancelled."""
        self._bell.ring()

    async def run(self) -> None:
        """Turn the thread until cancelled; a failure is told to whoever publishes."""
        await trio.to_thread.run_sync(self._turn, limiter=self.limiter)

    def close(self) -> None:
        """After run() has ended."""
        self._bell.close()

    # --- told by the thread, in trio ---

    def _answers(self, taken: int, unheard: int, refused: int, refusal: str) -> None:
        self.acknowledged += taken
        self.unheard += unheard
        self.refused += refused
        self.refusal = self.refusal or refusal
        self._tell()

    def _fail(self, reason: str) -> None:
        self._failure = reason
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # --- the thread ---

    def _turn(self) -> None:
        version = self.version
        while True:
            broker = self.brokers[self._at]
            connection = PublisherConnection(
                broker, version.speaks == "5", version.is_question, self._queue, self._bell, self._post, self.ear
            )
            ended = connection.run()
            self._queue.extendleft(reversed(list(connection.unanswered.values())))
            failure = self._what_failed(broker, ended, connection.answered)
            if failure:
                self._token.run_sync_soon(self._fail, failure)
                return
            if not version.heard(ended.heard):
                self._at = (self._at + 1) % len(self.brokers)
                self._pause()

    def _pause(self) -> None:
        """RETRY_S, however often somebody rings meanwhile."""
        until = time.monotonic() + RETRY_S
        while (left_s := until - time.monotonic()) > 0:
            self._bell.wait(left_s)

    def _what_failed(self, broker: Broker, ended: Ended, answered: int) -> str:
        """Why to give up; empty: try again."""
        where = f"the broker at {broker.host}:{broker.port}"
        if ended.is_final:
            return f"{where} refused us: {ended.reason}"
        if ended.was_up:
            self._ever_up = True
            self.reconnects += 1
            self._fruitless = 0 if answered or not self._queue else self._fruitless + 1
            if self._fruitless >= FRUITLESS:
                why = f"{ended.reason}, {ended.at}: not allowed?"
                return f"{where} ended {FRUITLESS} connections without taking a message: {why}"
            log.warning("connection to the broker lost, trying again", reason=ended.reason)
            return ""
        if not self._ever_up and time.monotonic() - self._since > GIVE_UP_S:
            return f"{where} cannot be reached: {ended.reason}{self.version.hint(ended.heard)}"
        return ""

    def _post(self, taken: int, unheard: int, refused: int, refusal: str) -> None:
        self._token.run_sync_soon(self._answers, taken, unheard, refused, refusal)


@asynccontextmanager
async def open_publisher(
    mqtt: MqttSettings, on_receipt: Callable[[bytes], None] | None = None
) -> AsyncIterator[Publisher]:
    """A publisher to the broker of these settings, which need not be up yet. What is not drained is dropped at the end.

    `on_receipt` is called in trio with each receipt that comes while it is connected; `receipt_topic` must be set.
    Raises PublishFailed from inside the block's own calls, outside of any exception group.
    """
    failed: PublishFailed | None = None
    ear = None
    if on_receipt is not None:
        token, tell = trio.lowlevel.current_trio_token(), on_receipt
        ear = Ear(receipt_filter(mqtt.receipt_topic), lambda payload: token.run_sync_soon(tell, payload))
    publisher = Publisher(_brokers(mqtt), Version(mqtt.protocol), ear)
    with closing(publisher):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.run)
            try:
                yield publisher
            except PublishFailed as error:
                failed = error
            finally:  # cancelled, too: its thread looks at that when it is woken
                nursery.cancel_scope.cancel()
                publisher.wake()
    if failed is not None:
        raise failed
