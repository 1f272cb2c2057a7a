"""The reader between a fake broker and nothing: the test settles by hand."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from actors.core.parcel import Parcel, PersistenceMessage, Settled
from actors.core.timestamps import format_ms
from actors.history.mailbox import ParcelMailbox
from actors.ingest.broker_state import BrokerState
from actors.ingest.messages import ReaderMessage
from actors.ingest.reader import Reader
from actors.ingest.state import ReaderState
from actors.ingest.validate import Rules
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.kit.fake_broker import FakeBroker, FakeLink
from tests.kit.making import BASE_MS


def payload(participant: str = "P001", at_s: float = 0, race: str = "R1") -> dict[str, object]:
    return {
        "participant_id": participant,
        "race_id": race,
        "latitude": 1.5,
        "longitude": 2.5,
        "timestamp": format_ms(BASE_MS + round(at_s * 1000)),
    }


@attrs.define(eq=False)
class Routed:
    """Stands for the directory."""

    parcels: list[Parcel] = attrs.field(factory=list)

    def route(self, parcel: Parcel, now: float) -> None:
        self.parcels.append(parcel)


@attrs.define(eq=False)
class World:
    """The reader between a fake broker and nothing: the test settles by hand."""

    reader: Reader
    broker: FakeBroker
    routed: Routed
    refused: trio.MemoryReceiveChannel[PersistenceMessage]
    inbox: trio.MemorySendChannel[ReaderMessage]
    metrics: Metrics
    health: Health
    link: FakeLink
    gave_up: list[str]

    async def settle(self, *parcels: Parcel) -> None:
        self.inbox.send_nowait(Settled(tuple(parcel.id for parcel in parcels)))
        await wait_all_tasks_blocked()

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"tracking_{name}", labels) or 0.0


def world(max_in_flight: int = 100, receive_maximum: int = 100) -> World:
    metrics = Metrics()
    health = Health(metrics)
    broker, routed = FakeBroker(), Routed()
    link = broker.make_link()
    to_persistence, refused = trio.open_memory_channel[PersistenceMessage](math.inf)
    send, inbox = trio.open_memory_channel[ReaderMessage](math.inf)
    gave_up: list[str] = []

    state = ReaderState()
    reader = Reader(
        state,
        link,
        inbox,
        send.send_nowait,
        routed,
        ParcelMailbox(to_persistence),
        Rules(262_144, topic_identity="none", topics=("tracking/+/position",)),
        metrics,
        health,
        lambda: BASE_MS + 60_000,
        max_fixes_in_flight=max_in_flight,
        receive_maximum=receive_maximum,
        parcel_rows=10,
        late_after_ms=30_000,
        broker=BrokerState(state, metrics, health, lambda: gave_up.append("asked")),
    )
    return World(reader, broker, routed, refused, send, metrics, health, link, gave_up)


@asynccontextmanager
async def running(w: World) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(w.reader.run)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()
