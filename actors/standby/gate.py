"""The reader's link to the broker, open while it is this node's turn. To the reader it is a link like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
import structlog
import trio

from actors.ingest.reader import Link
from actors.mqtt.events import BrokerEvent, Connected, Disconnected, GaveWay, ReceiptsDropped, TakenOver

log = structlog.get_logger("standby")

CLOSE_S = 6.0
"""For the link to say good-bye to the broker: a little more than it takes."""

Told = Connected | Disconnected | TakenOver


class GatedLink(Link, Protocol):
    """The MQTT driver: what the reader needs of it, and more."""

    def begin_anew(self) -> None: ...


@attrs.define(eq=False)
class BrokerGate:
    """Opened and shut by stand-by, run by the reader. Both may crash without the other."""

    link: GatedLink
    told: Callable[[Told], None] = lambda _event: None  # set by stand-by
    left: trio.Event = attrs.field(factory=trio.Event)  # the reader has drained and left the broker for good
    _open: trio.Event = attrs.field(factory=trio.Event)
    _shut: trio.Event = attrs.field(factory=trio.Event)  # one of the two is set
    _away: trio.Event = attrs.field(factory=trio.Event)  # the link does not run
    _held: bool = False
    _post: Callable[[BrokerEvent], None] = lambda _event: None

    def __attrs_post_init__(self) -> None:
        self._shut.set()
        self._away.set()

    @property
    def is_open(self) -> bool:
        """The link runs, or will as soon as the reader does."""
        return self._open.is_set()

    def open(self) -> None:
        """It is this node's turn."""
        if not self.is_open:
            self._open.set()
            self._shut = trio.Event()

    def shut(self) -> None:
        """It is no longer: the link says good-bye to the broker and ends. See `away`."""
        if self.is_open:
            self._open = trio.Event()
            self._shut.set()

    async def away(self) -> None:
        """Wait until the link has ended."""
        await self._away.wait()

    async def run(
        self, post: Callable[[BrokerEvent], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled. Raises what the link's `run` raises."""
        self._post = post
        self._held = False
        task_status.started()
        while True:
            if not self.is_open:
                post(GaveWay())
            while not self.is_open:
                await self._open.wait()
            self._away = trio.Event()
            try:
                await self._turn()
            finally:
                self._away.set()

    async def _turn(self) -> None:
        self.link.begin_anew()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.link.run, self._hear)
            self.link.hold(self._held)
            await self._shut.wait()
            with trio.move_on_after(CLOSE_S):
                await self.link.disconnect()
            nursery.cancel_scope.cancel()

    def _hear(self, event: BrokerEvent) -> None:
        if isinstance(event, TakenOver):
            log.error(
                f"another client seems to use our client_id {event.client_id!r}: thrown out {event.times} times in a"
                f" row within {event.within_s:g} s of CONNACK"
            )
        else:
            self._post(event)
        if isinstance(event, Connected | Disconnected | TakenOver):
            self.told(event)

    def taken(self) -> None:
        """As of the link."""
        self.link.taken()

    def acknowledge(self, epoch: int, packet_ids: tuple[int, ...]) -> None:
        """As of the link. Shut, they are dropped: the broker sends the messages to the next reader."""
        self.link.acknowledge(epoch, packet_ids)

    def hold(self, on: bool) -> None:
        """As of the link; it holds for the next turn too."""
        self._held = on
        self.link.hold(on)

    def publish(self, topic: str, payload: bytes) -> None:
        """As of the link. Shut, it is dropped, and counted."""
        if self._away.is_set():
            self._post(ReceiptsDropped(1, topic, "it is not this node's turn at the broker"))
        else:
            self.link.publish(topic, payload)

    def reconnect(self) -> None:
        """As of the link."""
        self.link.reconnect()

    def leave(self) -> None:
        """As of the link; not asked of a node whose session others wait for."""
        self.link.leave()

    async def end_session(self) -> str:
        """As disconnect(): the session is for the next reader."""
        await self.disconnect()
        return "the session belongs to other nodes too"

    async def disconnect(self) -> None:
        """As of the link, and for good: stand-by lets the lock go."""
        await self.link.disconnect()
        self.left.set()
