"""The reader: takes messages from the broker, routes their fixes, acknowledges what is durable.

Owns: the ledger's turn (the ledger itself is the supervisor's and outlives a crash). Takes in: what the MQTT driver
took from the socket, and settlements from persistence. Sends out: parcels to races, rejections to persistence,
acknowledgements to the driver, in the order of receipt.
A crash loses the connection, so the broker sends again whatever was not acknowledged; a payload that crashes the
reader twice becomes a `poison` rejection. Stops in two phases: StopTaking, then it ends when all is settled and
acknowledged; cancelled, it just ends and the broker keeps the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

import attrs
import structlog
import trio

from actors.core.fix import Fix
from actors.core.parcel import Parcel, Settled
from actors.core.rejection import Rejection, poison_message
from actors.core.timestamps import Clock
from actors.history.mailbox import ParcelMailbox
from actors.ingest.broker_state import BrokerState
from actors.ingest.decode import decode
from actors.ingest.leaving import Leaving, Move
from actors.ingest.messages import Leave, ReaderMessage, SessionEmpty, StopTaking, Tell
from actors.ingest.state import ReaderState, parcels
from actors.ingest.validate import Rules
from actors.mqtt.events import BrokerEvent, CopiesDropped, MessagesArrived
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from actors.telemetry.once import OncePerSecond

log = structlog.get_logger("reader")

BYTES_IN_FLIGHT = 64 * 1024 * 1024
"""Beyond this much payload in flight the socket is not read."""

STUCK_S = 30.0
"""When the oldest message without acknowledgement is the same for so long, while PostgreSQL is well, it got lost
somewhere here: have it sent again. A backlog is older than that after each outage, but it moves."""

MAX_UNACKED = 50_000
"""Messages. mosquitto 2.0 goes far beyond receive_maximum as long as it has a backlog; at 65,535 packet ids come twice,
and then acknowledgements are lost. What the driver has read already, some 9,000, comes on top."""

LEAVE_TURN_S = 0.2
"""Between two looks at how far it is, while a node leaves."""

RESUME_AT = 0.8
"""Read again when in flight has fallen to this part of the limit: hold and resume must not alternate per message."""


ReaderInbox: TypeAlias = trio.MemoryReceiveChannel[ReaderMessage]
"""Its mailbox, as it sees it."""


class Link(Protocol):
    """What the reader needs of the MQTT driver."""

    async def run(self, post: Callable[[BrokerEvent], None], *, task_status: trio.TaskStatus[None]) -> None: ...
    def taken(self) -> None: ...
    def acknowledge(self, epoch: int, packet_ids: tuple[int, ...]) -> None: ...
    def hold(self, on: bool) -> None: ...
    def reconnect(self) -> None: ...
    def publish(self, topic: str, payload: bytes) -> None: ...
    def leave(self) -> None: ...
    async def end_session(self) -> str: ...
    async def disconnect(self) -> None: ...


class Router(Protocol):
    """The directory of races."""

    def route(self, parcel: Parcel, now: float) -> None: ...


@attrs.define(eq=False)
class Reader:
    """Owns the turn at the ledger."""

    state: ReaderState
    link: Link
    inbox: ReaderInbox
    post: Callable[[ReaderMessage], None]  # into the own mailbox: for the driver
    router: Router
    to_history: ParcelMailbox
    rules: Rules
    metrics: Metrics
    health: Health
    clock: Clock
    max_fixes_in_flight: int  # [postgres] queue_rows
    receive_maximum: int  # [mqtt] receive_maximum
    parcel_rows: int  # [postgres] batch_rows
    late_after_ms: int  # [app] stale_data_threshold_ms
    broker: BrokerState
    handled: int = 0  # messages of the mailbox, for `status`
    _holding: bool = False
    _stopping: bool = False
    _asked_to_leave: trio.Event = attrs.field(factory=trio.Event)
    _empty: bool = False  # the session, which is to end
    _seldom: OncePerSecond = attrs.field(factory=OncePerSecond)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until StopTaking and everything is settled (returns), or cancelled."""
        self._try_held()
        self._holding = False
        self.broker.begin()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.link.run, self.post)
            nursery.start_soon(self._watch)
            nursery.start_soon(self._leave)
            task_status.started()
            while not ((self._stopping or self._empty) and self.state.ledger.idle):
                self.handle(await self.inbox.receive())
                self.handled += 1
            leaving = self.state.leaving
            if leaving is not None and self._empty:
                leaving.why_not = await self.link.end_session()
                leaving.left = not leaving.why_not
            else:
                await self.link.disconnect()
            nursery.cancel_scope.cancel()
        self.health.stopped("broker")

    def handle(self, message: ReaderMessage) -> None:
        """Do one message. Never waits."""
        match message:
            case MessagesArrived():
                now = trio.current_time()
                self.broker.heard(now)
                if self.state.leaving is not None:
                    self.state.leaving.took(len(message.messages), now)
                self._take(message)
                self.link.taken()
            case CopiesDropped(count=copies):
                self.metrics.copies.inc(copies)
            case Settled(parcels=parcels, tally=tally, but=but):
                self.state.settled(parcels, but)
                self.metrics.count(tally)
            case Tell(receipts=receipts):
                for topic, payload in receipts:
                    self.link.publish(topic, payload)
            case StopTaking():
                self._stopping = True
                self._hold(True)
            case Leave(catch_up=catch_up):
                self.state.leaving = Leaving(trio.current_time(), catch_up)
                self._asked_to_leave.set()
            case SessionEmpty():
                self._empty = True
            case _:
                self.broker.handle(message, trio.current_time())
        self._acknowledge()
        self._balance()

    def _take(self, batch: MessagesArrived) -> None:
        quarantine = self.state.quarantine
        quarantine.held = batch
        now_ms = self.clock()
        fixes: list[Fix] = []
        rejections: list[Rejection] = []
        ledger = self.state.ledger
        messages, waits_for = ledger.without_copies(batch.messages)
        for topic, payload in messages:
            if quarantine.poisoned and _digest(topic, payload) in quarantine.poisoned:
                rejections.append(poison_message(topic, payload, now_ms))
                continue
            good, bad = decode(topic, payload, now_ms, self.rules)
            fixes += good
            rejections += bad
        since = trio.current_time() - batch.waited_s
        shown, refused = parcels(ledger.next_number(), self.parcel_rows, fixes, rejections, since)
        parts = dict(enumerate([len(parcel.fixes) + len(parcel.rejections) for parcel in (*shown, *refused)]))
        size = sum(len(payload) for _, payload in messages) if waits_for else batch.payload_bytes
        entry = ledger.open(batch.epoch, batch.packet_ids, parts, size, since, messages, waits_for)
        quarantine.done()
        self.metrics.messages_received.inc(len(messages))
        self.metrics.copies.inc(len(batch.messages) - len(messages))
        self._count(fixes, rejections, now_ms)
        if shown:
            self.state.took(entry, shown)
        with self.to_history.together():
            for parcel in shown:
                self.router.route(parcel, since)
            for parcel in refused:
                self.to_history.send(parcel)

    def _count(self, fixes: list[Fix], rejections: Iterable[Rejection], now_ms: int) -> None:
        metrics = self.metrics
        refused = 0
        for rejection in rejections:
            refused += 1
            if self._seldom.allows(rejection.code, trio.current_time()):
                log.warning(
                    "payload rejected",
                    code=rejection.code,
                    topic=rejection.topic[:200],
                    detail=rejection.detail,
                    not_logged_since=self._seldom.take_suppressed(rejection.code),
                )
        metrics.fixes_received.inc(len(fixes) + refused)
        oldest_ms = now_ms - self.late_after_ms
        late = sum([fix.timestamp_ms < oldest_ms for fix in fixes])
        if late:
            metrics.fixes_late.inc(late)

    def _acknowledge(self) -> None:
        ledger = self.state.ledger
        due = ledger.take_acks()
        if due:
            self.link.acknowledge(ledger.epoch, due)
            self.metrics.acks.inc(len(due))
        self.metrics.messages_unacked.set(ledger.messages_unacked)
        self.metrics.fixes_in_flight.set(ledger.fixes_in_flight)

    def _balance(self) -> None:
        """Back-pressure, at its only place: everything downstream holds at most what is in flight here."""
        ledger = self.state.ledger
        if self._stopping:
            return
        part = max(
            ledger.fixes_in_flight / self.max_fixes_in_flight,
            ledger.bytes_in_flight / BYTES_IN_FLIGHT,
            # A broker that keeps to receive_maximum sends no more by itself: there is nothing to hold.
            ledger.messages_unacked / (min(self.receive_maximum, MAX_UNACKED) + 1),
        )
        self.metrics.in_flight_ratio.set(part)
        if not self._holding and part >= 1:
            self._hold(True)
        elif self._holding and part < RESUME_AT:
            self._hold(False)

    def _hold(self, on: bool) -> None:
        self._holding = on
        self.broker.holds(on, trio.current_time())
        self.link.hold(on)

    async def _watch(self) -> None:
        ledger = self.state.ledger
        oldest, since = 0, 0.0
        while True:
            began = trio.current_time()
            await trio.sleep(STUCK_S / 10)
            now = trio.current_time()
            self.broker.look(now)
            well = self.health.components["postgres"].up and not self._stopping
            # Or we were stopped ourselves, or the machine slept: nothing has had its time.
            if not well or ledger.oldest != oldest or now - began > STUCK_S / 2:
                oldest, since = ledger.oldest, now
            elif oldest and now - since >= STUCK_S:
                waited_s = round(ledger.oldest_waited_s(now))
                log.error("a message is stuck, reconnecting to have it sent again", waited_s=waited_s)
                ledger.doubt()
                self.link.reconnect()
                since = now

    async def _leave(self) -> None:
        """Once that is asked for."""
        if self.state.leaving is None:
            await self._asked_to_leave.wait()
        leaving = self.state.leaving
        assert leaving is not None
        leaving.begin_again()
        while True:
            await trio.sleep(LEAVE_TURN_S)
            match leaving.next(trio.current_time(), subscribed=self.broker.subscribed, idle=self.state.ledger.idle):
                case Move.UNSUBSCRIBE:
                    self.link.leave()
                case Move.END:
                    self.post(SessionEmpty())
                    return

    def _try_held(self) -> None:
        """After a crash in decoding: try the messages of that batch one by one; the broker will send them again."""
        quarantine = self.state.quarantine
        if quarantine.held is None:
            return
        messages = {_digest(topic, payload): (topic, payload) for topic, payload in quarantine.held.messages}
        for digest in quarantine.one_by_one(messages):
            decode(*messages[digest], self.clock(), self.rules)
        quarantine.done()


def _digest(topic: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(len(topic).to_bytes(4, "big") + topic + payload, digest_size=16).digest()
