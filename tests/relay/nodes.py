"""Nodes over one stream, one cache and one PostgreSQL, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from actors.core.errors import CacheUnavailable
from actors.core.fix import Fix
from actors.relay.entry import Sender
from actors.relay.mailbox import RelayMailbox
from actors.relay.relay import Relay
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.kit.fakes import FakeCache, FakeStore, Viewer
from tests.races.race_world import World, world


@attrs.define(eq=False)
class FakeStream:
    """Of all nodes."""

    entries: list[bytes] = attrs.field(factory=list)
    down: bool = False
    losing: bool = False  # what is appended is nowhere, without an error: a fail-over
    appended: int = 0
    _news: trio.Event = attrs.field(factory=trio.Event)

    async def append(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self.appended += 1
        if not self.losing:
            self.entries.append(data)
            self._news.set()
            self._news = trio.Event()

    def begin_anew(self) -> None:
        """As a Redis does that was emptied, and whose clock is behind: readers hear nothing behind their places."""
        self.entries.clear()

    async def read(self, after: str, block_s: float) -> tuple[str, Sequence[bytes]]:
        await trio.lowlevel.checkpoint()
        self._check()
        if not after:
            return str(len(self.entries)), []
        if len(self.entries) <= int(after):
            with trio.move_on_after(block_s):
                await self._news.wait()
        self._check()
        return str(len(self.entries)), self.entries[int(after) :]

    def _check(self) -> None:
        if self.down:
            raise CacheUnavailable("away")


@attrs.define(eq=False)
class Node:
    """One of them: its races, and what it tells the others."""

    world: World
    relay: Relay
    mailbox: RelayMailbox
    health: Health

    def read(self, *fixes: Fix) -> None:
        """They come from the broker, and are committed."""
        self.world.route(*fixes)
        self.world.store.rows |= {fix.id: fix for fix in fixes}

    def watch(self, race_id: str = "R1") -> Viewer:
        return self.world.watch(race_id)


@asynccontextmanager
async def nodes(many: int, stream: FakeStream | None = None) -> AsyncIterator[tuple[FakeStream, list[Node]]]:
    """All hear each other."""
    stream, store, cache = stream or FakeStream(), FakeStore(), FakeCache()
    made: list[Node] = []
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        for number in range(many):
            mailbox, metrics = RelayMailbox(compressing=True), Metrics()
            health = Health(metrics)
            one = await stack.enter_async_context(world(relay=mailbox, store=store, cache=cache))
            relay = Relay(stream, mailbox, one.races, health, metrics, Sender(f"node {number}", secret_mark=1))
            await nursery.start(relay.run)
            made.append(Node(one, relay, mailbox, health))
        while any(node.mailbox.deaf for node in made):
            await trio.sleep(0.1)
        yield stream, made
        nursery.cancel_scope.cancel()
