"""A broker and the link to it, in memory: what is not acknowledged comes again over the next connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import trio

from actors.mqtt.events import BrokerEvent, Connected, Disconnected, MessagesArrived, Subscribed, Unsubscribed


@attrs.define(eq=False)
class FakeBroker:
    """Keeps what was published until it is acknowledged, and sends it again over the next connection."""

    queue: dict[int, tuple[bytes, bytes]] = attrs.field(factory=dict)  # message number -> (topic, payload)
    published: int = 0
    acknowledged: list[int] = attrs.field(factory=list)  # message numbers, in the order of their acknowledgements
    epoch: int = 0
    session_present: bool = False
    away: bool = False  # nobody can connect
    links: list[FakeLink] = attrs.field(factory=list)

    def publish(self, payload: Any, topic: str = "tracking/x/position") -> int:
        """A tracker publishes; delivered at once when somebody is connected and reading."""
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.published += 1
        self.queue[self.published] = (topic.encode(), raw)
        for link in self.links:
            link.deliver()
        return self.published

    def make_link(self) -> FakeLink:
        return FakeLink(self)


@attrs.define(eq=False)
class FakeLink:
    """As the MQTT driver: one connection at a time, packet ids from 1 in each epoch."""

    broker: FakeBroker
    epoch: int = 0
    post: Callable[[BrokerEvent], None] = lambda _event: None
    sent: dict[int, int] = attrs.field(factory=dict)  # packet id -> message number, unacknowledged
    holding: bool = False
    holds: list[bool] = attrs.field(factory=list)
    disconnected: bool = False
    leaves: int = 0  # calls of leave()
    unsubscribed: bool = False
    keeps_session: str = ""  # why it cannot be ended
    ended_session: bool = False
    told: list[tuple[str, bytes]] = attrs.field(factory=list)  # receipts published

    async def run(
        self, post: Callable[[BrokerEvent], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self.post = post
        task_status.started()
        self.connect()
        try:
            await trio.sleep_forever()
        finally:
            self.drop()

    def connect(self) -> None:
        if self.broker.away:
            return
        self.broker.epoch += 1
        self.epoch = self.broker.epoch
        self.sent = {}
        self.drop()
        self.broker.links.append(self)
        self.post(Connected(self.epoch, self.broker.session_present))
        self.post(Subscribed(complete=True))
        self.broker.session_present = True
        self.deliver()

    def drop(self) -> None:
        if self in self.broker.links:
            self.broker.links.remove(self)

    def deliver(self) -> None:
        if self.holding:
            return
        on_the_way = set(self.sent.values())
        due = [number for number in self.broker.queue if number not in on_the_way]
        if not due:
            return
        first = max(self.sent, default=0) + 1
        packet_ids = tuple(range(first, first + len(due)))
        self.sent.update(zip(packet_ids, due, strict=True))
        messages = tuple(self.broker.queue[number] for number in due)
        self.post(MessagesArrived(self.epoch, messages, packet_ids, sum(len(payload) for _, payload in messages)))

    def begin_anew(self) -> None:
        """Nobody else has our name here."""

    def taken(self) -> None:
        """The driver's own bound on hand-overs; nothing to bound here."""

    def acknowledge(self, epoch: int, packet_ids: tuple[int, ...]) -> None:
        if epoch != self.epoch or self not in self.broker.links:
            return
        for packet_id in packet_ids:
            number = self.sent.pop(packet_id)
            del self.broker.queue[number]
            self.broker.acknowledged.append(number)

    def hold(self, on: bool) -> None:
        self.holding = on
        self.holds.append(on)
        if not on:
            self.deliver()

    def publish(self, topic: str, payload: bytes) -> None:
        self.told.append((topic, payload))

    def reconnect(self) -> None:
        self.drop()
        self.post(Disconnected(self.epoch, "asked to reconnect"))
        self.connect()

    def leave(self) -> None:
        self.leaves += 1
        self.unsubscribed = True
        self.post(Unsubscribed(self.leaves))

    async def end_session(self) -> str:
        if not self.keeps_session:
            self.broker.queue.clear()
            self.ended_session = True
        await self.disconnect()
        return self.keeps_session

    async def disconnect(self) -> None:
        await trio.lowlevel.checkpoint()
        self.disconnected = True
        self.drop()
