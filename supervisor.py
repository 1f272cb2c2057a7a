"""The daemon: which actors, wired how, on which drivers; the command line (`python supervisor.py --help`).

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
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import attrs
import structlog
import trio

from actors.cache.live_state import LiveMailbox, LiveState
from actors.core.parcel import PersistenceMessage
from actors.core.timestamps import Clock
from actors.dashboards.listener import Listener
from actors.dashboards.ports import tls_context
from actors.data_dir import DataDir
from actors.drivers import Drivers, open_drivers
from actors.embedded.addresses import addresses
from actors.embedded.servers import EmbeddedServers
from actors.history.batcher import Batcher
from actors.history.committer import Committer
from actors.history.mailbox import ParcelMailbox
from actors.history.persistence import Persistence, PersistenceState
from actors.history.spooling import Spooling
from actors.http.access import load_access
from actors.http.api import build_app
from actors.ingest.broker_state import BrokerState
from actors.ingest.departure import Departure
from actors.ingest.messages import ReaderMessage, StopTaking
from actors.ingest.reader import Reader, ReaderInbox
from actors.ingest.receipts import teller
from actors.ingest.state import ReaderState
from actors.ingest.validate import Rules
from actors.process import serve_here
from actors.races.directory import Directory
from actors.races.live_positions import LivePositions
from actors.races.race import Race
from actors.races.restore import Restorer
from actors.races.state import RaceState
from actors.races.turns import all_live
from actors.relay.entry import Sender
from actors.relay.mailbox import RelayMailbox
from actors.relay.relay import Relay
from actors.settings.load import Settings
from actors.standby.standby import Standby
from actors.supervision.child import ChildSpec, Restart, Start, State
from actors.supervision.control import ControlSocket
from actors.supervision.restart import Budget
from actors.supervision.serving import wall_clock_ms
from actors.supervision.status import deepest, tree_status
from actors.supervision.tree import Tree
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics

log = structlog.get_logger("supervisor")


@attrs.define(eq=False)
class Daemon:
    """The actors. Every mailbox and every piece of state that outlives an actor is made and kept here."""

    settings: Settings
    clock: Clock
    open_drivers: Callable[[Any], Drivers]  # given what the embedded servers' `started` told, or None
    edges: Callable[[Daemon], Sequence[tuple[str, Start]]]  # actors that face dashboards and operators, sinks first
    embedded: Start | None = None
    secret_mark: int = 0  # see actors/http/access.py
    metrics: Metrics = attrs.field(factory=Metrics)
    health: Health = attrs.field(init=False, default=attrs.Factory(lambda self: Health(self.metrics), takes_self=True))
    tree: Tree = attrs.field(init=False)
    drivers: Drivers = attrs.field(init=False)
    races: Directory = attrs.field(init=False)
    reader_state: ReaderState = attrs.field(factory=ReaderState)
    departure: Departure = attrs.field(init=False)
    _stop_taking: Callable[[], None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        cfg = self.settings.supervisor
        first_s, most_s = cfg.backoff_initial_ms / 1000, cfg.backoff_max_ms / 1000
        self.tree = Tree(Budget(cfg.max_restarts, cfg.restart_window_s, first_s, most_s), self.metrics)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the tree, wait until its `stop`, drain. Raises what a failed first start raised.

        The drivers are closed when nobody uses them any more, before the embedded servers behind them end.
        """
        tree = self.tree
        async with tree.open() as start:
            told = await start(tree.spec("embedded", self.embedded, shutdown_s=30.0)) if self.embedded else None
            self.drivers = self.open_drivers(told)
            async with aclosing(self.drivers), tree.open() as start:
                for spec in self._table():
                    if not tree.stop_asked.is_set():
                        await start(spec)
                task_status.started()
                await tree.stop_asked.wait()
                await self._drain()

    def _table(self) -> list[ChildSpec]:
        """The tree, in start order, with the mailboxes between its actors. None can be full, sending never blocks: the
        reader stops reading the broker at `[postgres] queue_rows` fixes or 64 MiB in flight, which bounds them all."""
        cfg, metrics, health, drivers = self.settings, self.metrics, self.health, self.drivers
        to_persistence, parcels = trio.open_memory_channel[PersistenceMessage](math.inf)
        to_history = ParcelMailbox(to_persistence)
        to_reader, reader_inbox = trio.open_memory_channel[ReaderMessage](math.inf)
        live_mailbox = LiveMailbox()
        batcher = Batcher(cfg.postgres.batch_rows, cfg.postgres.batch_ms / 1000)
        to_nodes = RelayMailbox(cfg.ws.compression) if cfg.cluster.relay else None
        look = to_nodes.look_again if to_nodes is not None else lambda: None
        restore = Restorer(
            drivers.history, drivers.cache, cfg.app.max_clock_skew_ms, drivers.spool, self.reader_state.fixes_in_flight
        )

        window_s, idle_s = cfg.ws.batch_window_ms / 1000, cfg.app.race_idle_ms / 1000

        def make_race(state: RaceState) -> Race:
            return Race(state, restore, to_history, live_mailbox, metrics, self.clock, window_s, idle_s, to_nodes)

        self.races = Directory(
            make_race,
            lambda: LivePositions(cfg.app.stale_data_threshold_ms, cfg.app.max_clock_skew_ms),
            restore,
            to_history,
            live_mailbox,
            metrics,
            self.clock,
            self.tree.budget,
            cfg.app.max_races,
            to_nodes,
        )
        tell = teller(cfg.mqtt.receipt_topic, to_reader.send_nowait)
        committer = Committer(drivers.store, metrics, self.races.rows_refused, tell)
        spooling = Spooling(drivers.spool, committer, metrics, health, cfg.postgres.spool_after_s, look)
        persistence = Persistence(
            PersistenceState(batcher), parcels, to_reader.send_nowait, committer, spooling, health
        )
        live_state = LiveState(
            live_mailbox, drivers.cache, health, cfg.redis.flush_ms / 1000, lambda: all_live(self.races.states), look
        )
        self._watch()
        spec = self.tree.spec
        table = [
            spec("persistence", persistence.run, depth=to_history.depth, handled=lambda: persistence.handled),
            spec("live state", live_state.run, depth=live_mailbox.depth, handled=lambda: live_state.handled),
            *(spec(name, start) for name, start in self.edges(self)),
            spec("races", self.races.run),
        ]
        if to_nodes is not None and drivers.stream is not None:
            me = Sender(cfg.app.node_id, self.secret_mark)
            relay = Relay(drivers.stream, to_nodes, self.races, health, metrics, me)
            table.append(spec("relay", relay.run, depth=to_nodes.depth, handled=lambda: relay.handled))
        return [*table, *self._ingest(reader_inbox, to_reader.send_nowait, to_history)]

    def _ingest(
        self, inbox: ReaderInbox, post: Callable[[ReaderMessage], None], rows: ParcelMailbox
    ) -> Iterator[ChildSpec]:
        cfg, metrics, health, parts = self.settings, self.metrics, self.health, self.drivers.standby
        children, own = self.tree.children, cfg.cluster.ingest in ("alone", "shared")
        self.departure = Departure(
            self.reader_state,
            post if own else None,  # else the session belongs to others too, or there is none
            cfg.cluster.ingest == "alone",
            lambda: any(child.spec.name == "reader" and child.ended.is_set() for child in children),
            self.drivers.spool,
            cfg.supervisor.drain_timeout_s,
            self.tree.stop,
        )
        if cfg.cluster.ingest == "none":
            health.up("broker", "not in use")
            return
        metrics.ingest_reading.set(int(parts is None))
        if parts is not None:
            standby = Standby(parts, cfg.mqtt.topics, health, metrics, self.tree.stop_asked.is_set)
            yield self.tree.spec("standby", standby.run, restart=Restart.TRANSIENT, handled=standby.answers)
        yield self._reader(inbox, post, rows)

    def _reader(self, inbox: ReaderInbox, post: Callable[[ReaderMessage], None], rows: ParcelMailbox) -> ChildSpec:
        cfg, metrics, health = self.settings, self.metrics, self.health
        reader = Reader(
            self.reader_state,
            self.drivers.link,
            inbox,
            post,
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
            broker=BrokerState(self.reader_state, metrics, health, lambda: self.tree.stop(1)),
        )
        self._stop_taking = lambda: post(StopTaking())
        return self.tree.spec(
            "reader",
            reader.run,
            restart=Restart.TRANSIENT,
            on_crash=lambda _crash: self.reader_state.after_crash(),
            excused=self.reader_state.excused,
            depth=lambda: inbox.statistics().current_buffer_used,
            handled=lambda: reader.handled,
        )

    def _watch(self) -> None:
        metrics, races, ledger = self.metrics, self.races.children, self.reader_state.ledger
        metrics.oldest_unacked_seconds.set_function(lambda: ledger.oldest_waited_s(trio.current_time()))
        metrics.mailbox_depth.labels(actor="race").set_function(lambda: deepest(races.values()))
        metrics.actors_parked.labels(actor="race").set_function(self.races.parked)

    async def _drain(self) -> None:
        """First phase of a stop: take no more, and wait until everything taken is durable and acknowledged."""
        child = {child.spec.name: child for child in self.tree.children}
        ledger = self.reader_state.ledger
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
            self.tree.stop(1)
            log.error("drain cut short, the broker keeps the rest", messages_left=ledger.messages_unacked)
        if self.drivers.spool is not None and self.drivers.spool.rows:
            log.warning("this node's spool keeps rows until it runs again", rows=self.drivers.spool.rows)


def serve(settings: Settings, beside: Callable[[], Awaitable[None]] | None = None) -> int:
    """What the command line hands to its commands: see Serve in actors/commands/run.py."""
    return serve_here(settings, make_daemon, beside)


def make_daemon(settings: Settings, data_dir: DataDir, embedded: EmbeddedServers | None) -> Daemon:
    """Everything real around the actors. Raises NotStarted."""
    access = load_access(settings)
    tls = tls_context(settings.tls)
    started_at = time.monotonic()

    def edges(daemon: Daemon) -> Sequence[tuple[str, Start]]:
        races, history, metrics, health = daemon.races, daemon.drivers.history, daemon.metrics, daemon.health
        app = build_app(
            settings=settings,
            access=access,
            history=history,
            races_live=races,
            health=health,
            metrics=metrics,
            clock=wall_clock_ms,
        )
        listener = Listener(settings, access, races, history, metrics, health, wall_clock_ms, app, tls)
        control = ControlSocket(
            data_dir.socket_path("control.sock"),
            lambda: tree_status(daemon.tree.children, races.children, health, settings.app.node_id, started_at),
            lambda: daemon.departure.whole(),
        )
        return [("control", control.run), ("listener", listener.run)]

    return Daemon(
        settings,
        wall_clock_ms,
        lambda told: open_drivers(settings, told or addresses(settings), data_dir.folder),
        edges,
        embedded=embedded.run if embedded else None,
        secret_mark=access.secret_mark(),
    )


if __name__ == "__main__":
    from actors.commands.parser import main

    sys.exit(main(sys.argv[1:], serve))
