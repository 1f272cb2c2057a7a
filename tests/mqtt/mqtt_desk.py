"""What the tests of the MQTT driver share: a reader that collects, and a mosquitto of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from actors.mqtt.events import BrokerEvent, Connected, Disconnected, MessagesArrived
from actors.mqtt.link import BrokerAddress, MqttLink
from actors.settings.load import MqttSettings
from tests.kit.servers import Server, start_mosquitto

E = TypeVar("E")

SETTINGS = attrs.evolve(MqttSettings(), topics=("t/#",))


@attrs.define(eq=False)
class Desk:
    """Stands for the reader. Takes every event; acknowledges at once when `acks` is set."""

    link: MqttLink
    takes: bool = True
    acks: bool = False
    events: list[BrokerEvent] = attrs.field(factory=list)
    messages: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    packet_ids: list[int] = attrs.field(factory=list)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def post(self, event: BrokerEvent) -> None:
        self.events.append(event)
        if isinstance(event, MessagesArrived):
            self.messages.extend(event.messages)
            self.packet_ids.extend(event.packet_ids)
            if self.acks:
                self.link.acknowledge(event.epoch, event.packet_ids)
            if self.takes:
                self.link.taken()
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(30):
            while not condition():
                await self._changed.wait()

    async def first(self, kind: type[E], number: int = 1) -> E:
        """The so-manieth event of this kind, waited for."""
        await self.until(lambda: len(self.all(kind)) >= number)
        return self.all(kind)[number - 1]

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def connected(self, number: int = 1) -> Connected:
        return await self.first(Connected, number)

    async def disconnected(self, number: int = 1) -> Disconnected:
        return await self.first(Disconnected, number)

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.messages]


@asynccontextmanager
async def running(link: MqttLink, *, acks: bool = False, takes: bool = True) -> AsyncIterator[Desk]:
    """The link with a desk; cancelled at the end unless it has ended by itself."""
    reader = Desk(link, takes=takes, acks=acks)
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run, reader.post)
        yield reader
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def mosquitto(folder: Path, *more: str) -> AsyncIterator[Server]:
    """One that keeps sessions over a restart."""
    with start_mosquitto(folder, *more, persistence=True) as server:
        yield server


def address_of(broker: Server) -> BrokerAddress:
    return BrokerAddress(broker.host, broker.port)


async def publish(broker: Server, topic: str, payloads: Sequence[bytes], *options: str, qos: int = 1) -> None:
    """One message a payload (no newlines in them), acknowledged by the broker when this returns."""
    await trio.run_process(
        ["mosquitto_pub", "-p", str(broker.port), "-t", topic, "-q", str(qos), "-l", *options],
        stdin=b"".join(payload + b"\n" for payload in payloads),
    )
