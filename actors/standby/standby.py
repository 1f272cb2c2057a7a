"""Stand-by: of several nodes with one client_id, the one that holds a lock in PostgreSQL reads the broker.

Owns: the lock, on a connection of its own to PostgreSQL, and the gate between the reader and the broker. Takes in: what
PostgreSQL answers, and what becomes of the connection to the broker. Sends out: whether this node reads.
A crash frees the lock and leaves the gate as it is; the next run asks for the lock at once. It ends when the reader has
left the broker for good, and that frees the lock: the next node finds nothing that was not acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, assert_never

import attrs
import structlog
import trio

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.mqtt.events import Connected, Disconnected, TakenOver
from actors.standby.gate import BrokerGate, Told
from actors.standby.mark import LastReaderMark
from actors.standby.topics import Known, SharedTopics
from actors.standby.turn import Turn
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics

log = structlog.get_logger("standby")

RETRY_S = 0.5
WRONG_RETRY_S = 5.0
"""Before the next attempt to reach PostgreSQL; the second one when its set-up is wrong."""


class Lock(Protocol):
    """The lock in PostgreSQL. All that waits raises StoreUnavailable or StoreMisconfigured; then it is lost."""

    @property
    def connected(self) -> bool: ...
    def close(self) -> None: ...
    async def connect(self) -> None: ...
    async def ask(self, take: bool) -> bool | None: ...
    async def session(self) -> tuple[frozenset[str], bool] | None: ...
    async def remember(self, topics: frozenset[str], granted: bool) -> None: ...


@attrs.frozen
class StandbyParts:
    """What it works with. The gate it shares with the reader."""

    lock: Lock
    gate: BrokerGate
    topics: SharedTopics
    mark: LastReaderMark


@attrs.define(eq=False)
class Standby:
    """One of a node."""

    parts: StandbyParts
    wanted: tuple[str, ...]  # [mqtt] topics
    health: Health
    metrics: Metrics
    stopping: Callable[[], bool]  # the daemon drains: it begins nothing
    turn: Turn = attrs.field(init=False)
    _answers: int = 0  # of PostgreSQL
    _written: Known | None = None  # into the table, in this session
    _trouble: str = ""  # why PostgreSQL did not answer as it should, since it did
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.turn = Turn(held_last=self.parts.mark.is_set)
        self.parts.gate.told = self._hear
        self.health.use("ingest")
        self.health.ingest = "waiting"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until the reader has left the broker for good, or cancelled."""
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_asking)
                await self.parts.gate.left.wait()
                nursery.cancel_scope.cancel()
        finally:
            held = self.turn.holds
            self.parts.lock.close()
            self.turn.session_lost()
            if self.parts.gate.left.is_set():
                if held:  # else nobody can have it after us, while PostgreSQL is away
                    self.turn.let_go()
                    self.parts.mark.set(False)
                self.metrics.ingest_reading.set(0)
                self.health.stopped("ingest")

    def answers(self) -> int:
        """So often PostgreSQL has said whose lock it is, for `status`."""
        return self._answers

    async def _keep_asking(self) -> None:
        while not self._begins_nothing():
            if not self.parts.lock.connected:
                await self._connect()
            else:
                asks_at, gives_up_at = self.turn.asks_at(), self.turn.gives_up_at()
                if not await self._hears_news(min(asks_at, gives_up_at)):
                    await (self._give_up() if gives_up_at <= asks_at else self._ask())
            await self._follow()
        self.parts.lock.close()
        self.turn.let_go()

    def _begins_nothing(self) -> bool:
        return self.stopping() and not self.parts.gate.is_open

    async def _connect(self) -> None:
        try:
            await self.parts.lock.connect()
        except (StoreUnavailable, StoreMisconfigured) as trouble:
            await self._lost(trouble)
        else:
            self._written = None
            self.turn.in_session(trio.current_time())

    async def _ask(self) -> None:
        try:
            ours = await self.parts.lock.ask(self.turn.may_take(trio.current_time()))
            if ours and not self.turn.holds:
                await self._learn()
            if ours and self.parts.topics.known != self._written:
                await self._write(self.parts.topics.known)
        except (StoreUnavailable, StoreMisconfigured) as trouble:
            await self._lost(trouble)
        else:
            self._answers += 1
            self._trouble = ""
            self.turn.answered(ours, trio.current_time())

    async def _learn(self) -> None:
        """What the session holds, from who read before. What we shall ask for is written down first: if we are gone in
        the next moment, the next node must know of it."""
        if self.parts.gate.is_open:  # it is we who read before, and know better
            return
        found = await self.parts.lock.session()
        before = self.parts.topics.known if found is None else Known(*found)
        known = Known(before.topics.union(self.wanted), before.granted)
        await self._write(known)
        self.parts.topics.write(known.topics, granted=known.granted)

    async def _write(self, known: Known) -> None:
        await self.parts.lock.remember(known.topics, known.granted)
        self._written = known

    async def _lost(self, trouble: StoreUnavailable | StoreMisconfigured) -> None:
        self._trouble = str(trouble)
        self.turn.session_lost()
        await self._follow()
        wait_s = WRONG_RETRY_S if isinstance(trouble, StoreMisconfigured) else RETRY_S
        await self._hears_news(trio.current_time() + wait_s)

    async def _give_up(self) -> None:
        """Another node may have more luck with the broker."""
        log.warning("no use of the broker: another node may try")
        self.parts.gate.shut()
        await self.parts.gate.away()
        self.parts.lock.close()
        self.turn.let_go()

    async def _follow(self) -> None:
        """Do what follows from whose turn it is."""
        self.parts.mark.set(self.turn.held_last)
        if not self.turn.may_read:
            self.parts.gate.shut()
            await self.parts.gate.away()
            self.turn.parted()
        elif not self.stopping() and not self.parts.gate.is_open:
            self.health.starting("broker")  # no fixes are taken before it is subscribed to
            self.parts.gate.open()
        self._show()

    def _show(self) -> None:
        reads = self.parts.gate.is_open
        before, self.health.ingest = self.health.ingest, "reading" if reads else "waiting"
        self.metrics.ingest_reading.set(int(reads))
        if before != self.health.ingest:
            log.info("this node reads now" if reads else "this node waits now", lock_held=self.turn.holds)
            if reads:
                self.metrics.ingest_takeovers.inc()
        if reads:
            self.health.up("ingest", "reading" if self.turn.holds else f"reading without the lock: {self._trouble}")
        elif self._trouble:
            self.health.down("ingest", self._trouble)
        else:
            self.health.up("ingest", "waiting")

    def _hear(self, event: Told) -> None:
        now = trio.current_time()
        match event:
            case Connected():
                self.turn.on_broker(now)
            case Disconnected():
                self.turn.off_broker(now)
            case TakenOver():
                self.turn.beaten(now)
            case _:
                assert_never(event)
        if not self.turn.may_read:
            self.parts.gate.shut()  # at once: the link is about to try again
            self._show()
        self._changed.set()

    async def _hears_news(self, until: float) -> bool:
        """Of the broker, before that time."""
        with trio.move_on_at(until) as waiting:
            await self._changed.wait()
        self._changed = trio.Event()
        return not waiting.cancelled_caught
