"""What the tests of the MQTT driver share: a reader that collects, and a mosquitto of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from actors.mqtt.events import BrokerEvent, Connected, Disconnected, MessagesArrived
from actors.mqtt.link import BrokerAddress, MqttLink
from actors.settings.load import MqttSettings
from tests.kit.servers import free_port

E = TypeVar("E")
START_S = 60.0

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


@attrs.define(eq=False)
class Mosquitto:
    """A broker in a folder of its own; it can be stopped and started again on the same port."""

    folder: Path
    port: int
    _process: trio.Process | None = None

    async def start(self) -> None:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                ["mosquitto", "-v", "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        with trio.fail_after(START_S):
            while True:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", self.port)).aclose()
                except OSError:
                    assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
                    await trio.sleep(0.02)
                else:
                    return

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()
            self._process = None

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port)

    async def publish(self, topic: str, payloads: Sequence[bytes], *options: str, qos: int = 1) -> None:
        """One message a payload (no newlines in them), acknowledged by the broker when this returns."""
        await trio.run_process(
            ["mosquitto_pub", "-p", str(self.port), "-t", topic, "-q", str(qos), "-l", *options],
            stdin=b"".join(payload + b"\n" for payload in payloads),
        )

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text()


@asynccontextmanager
async def mosquitto(folder: Path, *extra: str) -> AsyncIterator[Mosquitto]:
    """Persistent, anonymous unless `extra` lines of configuration say otherwise."""
    port = free_port()
    lines = [
        "user root" if os.geteuid() == 0 else "",
        "persistence true",
        f"persistence_location {folder}/",
        "autosave_interval 1",
        "max_queued_messages 1000000",
        f"listener {port} 127.0.0.1",
        *(extra or ("allow_anonymous true",)),
    ]
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    broker = Mosquitto(folder, port)
    try:
        await broker.start()
        yield broker
    finally:
        with trio.CancelScope(shield=True):
            await broker.stop()
