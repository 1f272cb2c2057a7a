"""The daemon: the supervision tree, its wiring, signals, and the command line (`python supervisor.py --help`).

Start order is sinks first, source last: embedded servers, persistence, live state, edges (listener, control),
races, reader. A stop has two phases, because acknowledgements flow against the stream: the reader takes no more but
stays connected until all is committed and acknowledged; only then does everything end, in reverse order.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before everything else is imported, which takes half a second
    from actors.commands.early_stop import end_at_once

    end_at_once(sys.argv[1:])

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import structlog
import trio

from actors.committing import Committer
from actors.core.batch import Batcher
from actors.core.decode import Rules
from actors.core.receipt import receipts
from actors.core.restart import Budget
from actors.core.standing import Standing
from actors.health import Health
from actors.live_state import LiveMailbox, LiveStateActor
from actors.messages import PersistenceMessage, ReaderMessage, StopTaking, Tell
from actors.metrics import Metrics
from actors.outside import Outside
from actors.persistence import Desk, Persistence
from actors.race import Clock, Race
from actors.race_cell import RaceCell
from actors.races import Races
from actors.reader import Reader
from actors.reader_broker import BrokerState
from actors.reader_desk import ReaderDesk
from actors.restore import Restorer
from actors.rows import Rows
from actors.settings import Settings
from actors.spooling import Spooling
from actors.supervision import Child, ChildSpec, Restart, Start, State, keep_running

log = structlog.get_logger("supervisor")


@attrs.define(eq=False)
class Daemon:
    """The tree. Every mailbox and every piece of state that outlives an actor is made and kept here."""

    settings: Settings
    clock: Clock
    open_outside: Callable[[Any], Outside]  # given what the embedded servers' `started` told, or None
    edges: Callable[[Daemon], Sequence[tuple[str, Start]]]  # actors that face dashboards and operators, sinks first
    embedded: Start | None = None
    metrics: Metrics = attrs.field(factory=Metrics)
    health: Health = attrs.field(init=False)
    outside: Outside = attrs.field(init=False)
    races: Races = attrs.field(init=False)
    children: list[Child] = attrs.field(factory=list)  # in start order, without the races
    desk: ReaderDesk = attrs.field(factory=ReaderDesk)
    exit_code: int = 0
    stop_asked: trio.Event = attrs.field(factory=trio.Event)
    _stop_taking: Callable[[], None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.health = Health(self.metrics)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> int:
        """Start the tree, wait until `stop`, drain. Returns the exit code; raises what a failed first start raised."""
        async with trio.open_nursery() as nursery:
            try:
                addresses = None
                if self.embedded is not None:
                    addresses = await self._start(nursery, self._spec("embedded", self.embedded, shutdown_s=30.0))
                self.outside = self.open_outside(addresses)
                servers = len(self.children)
                try:
                    for spec in self._table():
                        if not self.stop_asked.is_set():
                            await self._start(nursery, spec)
                    task_status.started()
                    await self.stop_asked.wait()
                    await self._drain()
                finally:
                    with trio.CancelScope(shield=True):
                        await self._stop_children(but=servers)
                        await self.outside.aclose()
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop_children(but=0)
        return self.exit_code

    async def _stop_children(self, but: int) -> None:
        """In reverse order, `but` for so many of the first."""
        for child in reversed(self.children[but:]):
            await child.stop()

    def stop(self, exit_code: int = 0) -> None:
        """Ask for a drain; the worst exit code that was asked for counts."""
        self.exit_code = max(self.exit_code, exit_code)
        self.stop_asked.set()

    def _table(self) -> list[ChildSpec]:
        """The tree, in start order, with the mailboxes between its actors."""
        cfg, metrics, health = self.settings, self.metrics, self.health
        to_persistence, parcels = trio.open_memory_channel[PersistenceMessage](math.inf)
        rows = Rows(to_persistence)
        to_reader, reader_inbox = trio.open_memory_channel[ReaderMessage](math.inf)
        live_mailbox = LiveMailbox()
        batcher = Batcher(cfg.postgres.batch_rows, cfg.postgres.batch_ms / 1000)
        outside = self.outside
        restore = Restorer(
            outside.history, outside.cache, cfg.app.max_clock_skew_ms, outside.spool, self.desk.fixes_in_flight
        )

        def make_race(cell: RaceCell) -> Race:
            return Race(
                cell,
                restore,
                rows,
                live_mailbox,
                metrics,
                self.clock,
                window_s=cfg.ws.batch_window_ms / 1000,
                idle_s=cfg.app.race_idle_ms / 1000,
            )

        self.races = Races(
            make_race,
            lambda: Standing(cfg.app.stale_data_threshold_ms, cfg.app.max_clock_skew_ms),
            restore,
            rows,
            live_mailbox,
            metrics,
            self.clock,
            self._budget(),
            cfg.app.max_races,
        )
        committer = Committer(self.outside.store, metrics)
        committer.refused = self.races.rows_refused
        if cfg.mqtt.receipt_topic:
            committer.told = lambda fixes, rejections: to_reader.send_nowait(
                Tell(tuple(receipts(cfg.mqtt.receipt_topic, fixes, rejections)))
            )
        spooling = Spooling(self.outside.spool, committer, metrics, health, cfg.postgres.spool_after_s)
        persistence = Persistence(Desk(batcher), parcels, _poster(to_reader), committer, spooling, health)
        live_state = LiveStateActor(
            live_mailbox, self.outside.cache, health, cfg.redis.flush_ms / 1000, self.races.all_live
        )
        reader = Reader(
            self.desk,
            self.outside.link,
            reader_inbox,
            _poster(to_reader),
            self.races,
            rows,
            Rules(cfg.mqtt.max_payload_bytes, topic_identity=cfg.mqtt.topic_identity, topics=cfg.mqtt.topics),
            metrics,
            health,
            self.clock,
            max_fixes_in_flight=cfg.postgres.queue_rows,
            receive_maximum=cfg.mqtt.receive_maximum,
            parcel_rows=cfg.postgres.batch_rows,
            late_after_ms=cfg.app.stale_data_threshold_ms,
            broker=BrokerState(self.desk, metrics, health, lambda: self.stop(1)),
        )
        metrics.oldest_unacked_seconds.set_function(lambda: self.desk.ledger.oldest_waited_s(trio.current_time()))
        metrics.mailbox_depth.labels(actor="race").set_function(self.races.deepest)
        metrics.actors_parked.labels(actor="race").set_function(self.races.parked)
        self._stop_taking = lambda: to_reader.send_nowait(StopTaking())
        return [
            self._spec(
                "persistence",
                persistence.run,
                depth=lambda: parcels.statistics().current_buffer_used,
                handled=lambda: persistence.handled,
            ),
            self._spec(
                "live state",
                live_state.run,
                depth=lambda: len(live_mailbox.waiting),
                handled=lambda: live_state.handled,
            ),
            *(self._spec(name, start) for name, start in self.edges(self)),
            self._spec("races", self.races.run),
            self._spec(
                "reader",
                reader.run,
                restart=Restart.TRANSIENT,
                on_crash=lambda _crash: self.desk.after_crash(),
                excused=self.desk.excused,
                depth=lambda: reader_inbox.statistics().current_buffer_used,
                handled=lambda: reader.handled,
            ),
        ]

    def _spec(self, name: str, start: Start, **more: Any) -> ChildSpec:
        """A permanent child whose spent budget takes the daemon down, after a drain."""
        return ChildSpec(name, name, start, self._budget(), on_spent=lambda: self.stop(1), **more)

    def _budget(self) -> Budget:
        cfg = self.settings.supervisor
        return Budget(cfg.max_restarts, cfg.restart_window_s, cfg.backoff_initial_ms / 1000, cfg.backoff_max_ms / 1000)

    async def _start(self, nursery: trio.Nursery, spec: ChildSpec) -> object:
        child = Child(spec)
        self.children.append(child)
        self.metrics.mailbox_depth.labels(actor=spec.kind).set_function(spec.depth)
        return await nursery.start(keep_running, child, self.metrics)

    async def _drain(self) -> None:
        """First phase of a stop: take no more, and wait until everything taken is durable and acknowledged."""
        child = {child.spec.name: child for child in self.children}
        ledger = self.desk.ledger
        if "reader" not in child:
            return  # stopped while starting: nothing was taken
        log.info("draining", fixes_in_flight=ledger.fixes_in_flight)
        self._stop_taking()
        if State.PARKED not in (child["reader"].state, child["persistence"].state):
            with trio.move_on_after(self.settings.supervisor.drain_timeout_s):
                await child["reader"].ended.wait()
        if ledger.idle and child["reader"].state is State.STOPPED:
            log.info("drained: everything taken is committed and acknowledged")
        else:
            self.exit_code = 1
            log.error("drain cut short, the broker keeps the rest", messages_left=ledger.messages_unacked)


def _poster(channel: trio.MemorySendChannel[Any]) -> Callable[[Any], None]:
    """For drivers and actors that post without knowing channels. Never blocks: see messages.py on what bounds it."""
    return channel.send_nowait


if __name__ == "__main__":
    from actors.commands.parser import main

    sys.exit(main(sys.argv[1:]))
