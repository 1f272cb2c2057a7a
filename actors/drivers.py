"""What stands outside the tree: the drivers that actors talk to. Real ones here; a simulation brings its own."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import attrs
import structlog
import trio

from actors.cache.live_state import Cache
from actors.cache.redis import RedisStore
from actors.cache.stream import RedisStream
from actors.embedded.addresses import Addresses
from actors.history.committer import Store
from actors.history.postgres.ingest_lock import PostgresLock, lock_address
from actors.history.postgres.reader import PostgresHistory
from actors.history.postgres.writer import PostgresWriter
from actors.history.queries import History
from actors.history.spool.spool import SpoolOnDisk
from actors.history.spool_account import Spool
from actors.ingest.reader import Link
from actors.mqtt.link import MqttLink
from actors.mqtt.subscriptions import RememberedTopics
from actors.races.restore import NewestInCache, NewestInHistory, NewestInSpool
from actors.relay.relay import Stream
from actors.settings.load import Settings
from actors.settings.rules import weak_spots
from actors.standby.gate import BrokerGate
from actors.standby.mark import LastReaderMark
from actors.standby.standby import StandbyParts
from actors.standby.topics import SharedTopics

log = structlog.get_logger("settings")

MIB = 1024 * 1024


class Closable(Protocol):
    """Closed by the tree, when nobody uses it any more."""

    async def aclose(self) -> None:
        """Takes a few seconds at most, also when cancelled."""
        ...


class Writer(Store, Closable, Protocol):
    """The PostgreSQL writer."""


class DiskSpool(Spool, NewestInSpool, Closable, Protocol):
    """The spool on this node's disk."""


class RaceHistory(History, NewestInHistory, Closable, Protocol):
    """The PostgreSQL reader: asked by dashboards and HTTP, and when a race starts."""


class LiveCache(Cache, NewestInCache, Closable, Protocol):
    """The Redis driver: written by live state, read when a race starts."""


class RelayStream(Stream, Closable, Protocol):
    """The stream between nodes: written and read by the relay."""


@attrs.frozen
class Drivers:
    """Every driver once. The reader ends the link itself, stand-by the lock."""

    link: Link
    store: Writer
    history: RaceHistory
    cache: LiveCache
    spool: DiskSpool | None = None  # [postgres] spool = no
    stream: RelayStream | None = None  # [cluster] relay = no
    standby: StandbyParts | None = None  # only with [cluster] ingest = standby; `link` is its gate then

    async def aclose(self) -> None:
        """The stores say good-bye, and the spool's log goes into its file: then that file is all of it. To the end,
        also when cancelled."""
        stores: tuple[Closable | None, ...] = (self.history, self.store, self.cache, self.stream, self.spool)
        with trio.CancelScope(shield=True):
            for driver in stores:
                if driver is not None:
                    await driver.aclose()


def open_drivers(settings: Settings, where: Addresses, folder: Path) -> Drivers:
    """The real ones, none of them connected yet. `folder`: data_dir."""
    pg = settings.postgres
    # So long every fix waits for company, for a commit and for a frame: it may as well wait before it is read.
    gather_s = min(pg.batch_ms, settings.ws.batch_window_ms) / 1000
    mqtt = settings.mqtt
    for weak_spot in weak_spots(settings):
        log.warning(weak_spot)
    standby = None
    if settings.cluster.ingest == "standby":
        topics = SharedTopics(RememberedTopics(folder, mqtt.client_id))
        lock = PostgresLock(lock_address(where.postgres, pg.lock_host), mqtt.client_id, settings.app.node_id)
        gate = BrokerGate(MqttLink(mqtt, where.broker, folder, gather_s, remembered=topics))
        standby = StandbyParts(lock, gate, topics, LastReaderMark(folder, mqtt.client_id))
    group = settings.cluster.shared_group if settings.cluster.ingest == "shared" else ""
    return Drivers(
        standby.gate if standby else MqttLink(mqtt, where.broker, folder, gather_s, group),
        PostgresWriter(where.postgres),
        PostgresHistory(where.postgres, settings.app.max_clock_skew_ms),
        RedisStore(where.redis, ttl_s=settings.redis.ttl_s, node_id=settings.app.node_id),
        SpoolOnDisk(folder / "spool.sqlite", pg.spool_max_mb * MIB) if pg.spool else None,
        RedisStream(where.redis) if settings.cluster.relay else None,
        standby,
    )
