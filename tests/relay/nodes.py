"""Nodes over one stream, one cache and one PostgreSQL, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from actors.core.fix import Fix
from actors.relay.entry import Sender
from actors.relay.mailbox import RelayMailbox
from actors.relay.relay import Relay
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.kit.fake_stream import FakeStream
from tests.kit.fakes import FakeCache, FakeStore, Viewer
from tests.races.race_world import World, world


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
