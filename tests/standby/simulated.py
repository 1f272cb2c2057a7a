"""Nodes that stand by for each other, PostgreSQL and a broker, simulated: each way between them can be cut.

What the real ones do is taken from what was seen of them: PostgreSQL ends a session 4 s after its client is cut off,
the broker has one client of a name and closes the connection of the one before, and neither tells who is cut off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.postgres.ingest_lock import ANSWER_S, CONNECT_S
from actors.mqtt.events import BrokerEvent, Connected, Disconnected, TakenOver
from actors.mqtt.rival import TIMES
from actors.mqtt.subscriptions import RememberedTopics
from actors.mqtt.thread import RETRY_S, STEADY_S
from actors.standby.gate import BrokerGate
from actors.standby.mark import LastReaderMark
from actors.standby.standby import Standby, StandbyParts
from actors.standby.topics import SharedTopics
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics

FREED_S = 4.0
"""After which PostgreSQL gives up on a client that it does not reach."""

SILENT_S = 3.0
"""After which a client of the broker does, which pings less often in truth."""


@attrs.define(eq=False)
class Server:
    """PostgreSQL or the broker, as far as it can be reached."""

    up: bool = True
    cut: set[str] = attrs.field(factory=set)  # names of nodes

    def reaches(self, name: str) -> bool:
        return self.up and name not in self.cut


@attrs.define(eq=False)
class Postgres(Server):
    """Its table and its lock, of one client_id."""

    holder: SimulatedLock | None = None
    sessions: dict[SimulatedLock, float] = attrs.field(factory=dict)  # -> since when it cannot be reached, or inf
    row: tuple[frozenset[str], bool] | None = None
    wrong: str = ""  # what is wrong with its table

    def end(self, session: SimulatedLock) -> None:
        self.sessions.pop(session, None)
        if self.holder is session:
            self.holder = None

    def look(self, now: float) -> None:
        """Give up on who is silent; a restart ends all."""
        for session, since in tuple(self.sessions.items()):
            silent_since = min(since, now) if session.name in self.cut else float("inf")
            self.sessions[session] = silent_since
            if not self.up or now - silent_since >= FREED_S:
                self.end(session)


@attrs.define(eq=False)
class SimulatedLock:
    """The driver of one node, in one life."""

    postgres: Postgres
    name: str
    connected: bool = False

    def close(self) -> None:
        self.connected = False
        if self.postgres.reaches(self.name):
            self.postgres.end(self)

    async def connect(self) -> None:
        self.close()
        await self._answer(CONNECT_S)
        self.postgres.end(self)
        self.postgres.sessions[self] = float("inf")
        self.connected = True

    async def ask(self, take: bool) -> bool | None:
        await self._answer(ANSWER_S)
        if self.postgres.holder is None:
            if not take:
                return None
            self.postgres.holder = self
        return self.postgres.holder is self

    async def session(self) -> tuple[frozenset[str], bool] | None:
        await self._answer(ANSWER_S)
        if self.postgres.wrong:
            self.close()
            raise StoreMisconfigured(self.postgres.wrong)
        return self.postgres.row

    async def remember(self, topics: frozenset[str], granted: bool) -> None:
        await self._answer(ANSWER_S)
        self.postgres.row = topics, granted

    async def _answer(self, within_s: float) -> None:
        await trio.sleep(0.01)
        if self.name in self.postgres.cut:
            await trio.sleep(within_s)
            self.connected = False
            raise StoreUnavailable("no answer")
        if not self.postgres.up or (self.connected and self not in self.postgres.sessions):
            self.connected = False
            raise StoreUnavailable("connection lost")


@attrs.define(eq=False)
class Broker(Server):
    """It has one client of our name, and counts how often one took another's place."""

    client: SimulatedLink | None = None
    epochs: count[int] = attrs.field(factory=lambda: count(1))
    thrown_out: list[float] = attrs.field(factory=list)  # when


@attrs.define(eq=False)
class SimulatedLink:
    """The MQTT driver of one node, in one life: it stays connected, whatever happens."""

    broker: Broker
    name: str
    held: bool = False
    published: list[tuple[str, bytes]] = attrs.field(factory=list)
    reconnects: int = 0
    connected: int = 0  # times
    _lost: trio.Event = attrs.field(factory=trio.Event)
    _finishing: trio.Event = attrs.field(factory=trio.Event)
    _running: bool = False

    async def run(
        self, post: Callable[[BrokerEvent], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self._finishing, self._running = trio.Event(), True
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stay_connected, post)
                await self._finishing.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._running = False
            if self.broker.client is self:
                self.broker.client = None

    async def _stay_connected(self, post: Callable[[BrokerEvent], None]) -> None:
        times, wait_s = 0, RETRY_S[0]
        while times < TIMES:
            if not self.broker.reaches(self.name):
                post(Disconnected(0, "cannot connect"))
                await trio.sleep(wait_s)
                continue
            before, self.broker.client = self.broker.client, self
            self._lost = trio.Event()
            self.connected += 1
            if before is not None:
                self.broker.thrown_out.append(trio.current_time())
                before._lost.set()
            post(Connected(next(self.broker.epochs), session_present=True))
            began = trio.current_time()
            thrown_out = await self._until_lost()
            post(Disconnected(0, "connection lost"))
            steady = trio.current_time() - began >= STEADY_S
            times = 0 if steady or not thrown_out else times + 1
            wait_s = RETRY_S[0] if steady else min(RETRY_S[1], wait_s * 2)
            await trio.sleep(wait_s)
        post(TakenOver("simulated", TIMES, STEADY_S))
        await trio.sleep_forever()

    async def _until_lost(self) -> bool:
        """Whether another took our place, as far as we are told."""
        while self.broker.reaches(self.name):
            with trio.move_on_after(0.1):
                await self._lost.wait()
                return True
        if self.broker.up:
            await trio.sleep(SILENT_S)
        if self.broker.client is self:
            self.broker.client = None
        return False

    def leave(self) -> None:
        raise AssertionError("a node that stands by does not unsubscribe")

    async def end_session(self) -> str:
        raise AssertionError("the session is for the next reader")

    async def disconnect(self) -> None:
        self._finishing.set()
        while self._running:
            await trio.sleep(0.01)

    def publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, payload))

    def hold(self, on: bool) -> None:
        self.held = on

    def reconnect(self) -> None:
        self.reconnects += 1

    def begin_anew(self) -> None:
        """Each run counts from the beginning, here."""

    def taken(self) -> None:
        """Nothing comes."""

    def acknowledge(self, epoch: int, packet_ids: tuple[int, ...]) -> None:
        """As above."""


@attrs.define(eq=False)
class SimulatedNode:
    """One node over all its lives; its data_dir stays."""

    name: str
    folder: Path
    postgres: Postgres
    broker: Broker
    wanted: tuple[str, ...] = ("t/+",)
    stopping: bool = False
    posted: list[BrokerEvent] = attrs.field(factory=list)
    standby: Standby = attrs.field(init=False)
    link: SimulatedLink = attrs.field(init=False)
    _scope: trio.CancelScope | None = None
    _run: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def gate(self) -> BrokerGate:
        return self.standby.parts.gate

    @property
    def lives(self) -> bool:
        return self._scope is not None

    @property
    def reads(self) -> bool:
        return self.lives and self.gate.is_open

    @property
    def reads_for_all(self) -> bool:
        """It is on the broker."""
        return self.reads and self.broker.client is self.link

    async def live(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `kill`, or until `stop` is through."""
        self.folder.mkdir(exist_ok=True)
        self.stopping = False
        self.link = SimulatedLink(self.broker, self.name)
        topics = SharedTopics(RememberedTopics(self.folder, "simulated"))
        parts = StandbyParts(
            SimulatedLock(self.postgres, self.name),
            BrokerGate(self.link),
            topics,
            LastReaderMark(self.folder, "simulated"),
        )
        metrics = Metrics()
        self.standby = Standby(parts, self.wanted, Health(metrics), metrics, lambda: self.stopping)
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                await nursery.start(self._supervise)
                await nursery.start(self.gate.run, self.posted.append)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._scope = None

    async def _supervise(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Runs stand-by, and once more after a crash."""
        task_status.started()
        while True:
            with trio.CancelScope() as self._run:
                await self.standby.run()
            if not self._run.cancelled_caught:
                return

    async def crash(self) -> None:
        """Of stand-by alone; it is run again."""
        self._run.cancel()
        await wait_all_tasks_blocked()

    async def kill(self) -> None:
        """As kill -9: the kernel closes its connections."""
        assert self._scope is not None
        self._scope.cancel()
        while self.lives:
            await trio.lowlevel.checkpoint()

    async def stop(self) -> None:
        """As SIGTERM, with nothing to drain."""
        self.stopping = True
        await self.gate.disconnect()
        await self.kill()


@attrs.define(eq=False)
class Cluster:
    """All there is."""

    folder: Path
    nursery: trio.Nursery
    postgres: Postgres = attrs.field(factory=Postgres)
    broker: Broker = attrs.field(factory=Broker)
    nodes: list[SimulatedNode] = attrs.field(factory=list)
    both_read_s: float = 0.0  # how long two that reach the broker have thought that it is their turn, without a break
    longest_both_read_s: float = 0.0

    def add(self, name: str) -> SimulatedNode:
        node = SimulatedNode(name, self.folder / name, self.postgres, self.broker)
        self.nodes.append(node)
        return node

    async def start(self, *nodes: SimulatedNode) -> None:
        for node in nodes:
            await self.nursery.start(node.live)

    def readers(self) -> list[SimulatedNode]:
        return [node for node in self.nodes if node.reads]

    async def watch(self) -> None:
        """PostgreSQL's clean-up, and what must not last."""
        step_s = 0.2
        while True:
            await trio.sleep(step_s)
            self.postgres.look(trio.current_time())
            able = [node for node in self.readers() if self.broker.reaches(node.name)]
            self.both_read_s = self.both_read_s + step_s if len(able) > 1 else 0.0
            self.longest_both_read_s = max(self.longest_both_read_s, self.both_read_s)

    async def until_reading(self, node: SimulatedNode | None = None, within_s: float = 60.0) -> float:
        """Wait until a node (this one) reads for all; how long that took."""
        began = trio.current_time()
        with trio.fail_after(within_s):
            while not any(each.reads_for_all for each in ([node] if node else self.nodes)):
                await trio.sleep(0.05)
        return trio.current_time() - began


@asynccontextmanager
async def cluster(folder: Path, names: str = "abc") -> AsyncIterator[Cluster]:
    """Nodes of these names, none of which lives yet."""
    async with trio.open_nursery() as nursery:
        made = Cluster(folder, nursery)
        for name in names:
            made.add(name)
        nursery.start_soon(made.watch)
        yield made
        nursery.cancel_scope.cancel()
