"""The nodes of a Redis Cluster, each command to the one that owns its key.

Nothing is known for long: any node is asked who owns what, again after every error and every redirection. redis-py's
own client for clusters did not come back to a stream after its owner was killed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import attrs
import trio
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from actors.cache.calls import Command
from actors.cache.connections import PAUSE_MOST_S, Connections, Errors
from actors.cache.slots import Node, SlotMap, slot_map, slot_of
from actors.core.addresses import RedisAddress
from actors.core.errors import CacheUnavailable

REDIRECTIONS = 3
"""Of one call; more, and the cluster is busy with itself."""

OF_THE_CLUSTER: Errors = (MovedError, AskError, ClusterDownError, TryAgainError)
"""No fault of the node that says so: it need not rest."""

ASKING = Command("", ("ASKING",))
CLUSTER_SLOTS = Command("", ("CLUSTER", "SLOTS"))


@attrs.define(eq=False)
class ClusterServers:
    """See Servers. An answer that was lost is not asked for again: the command may have been done."""

    address: RedisAddress
    pause_most_s: float = PAUSE_MOST_S
    _seeds: list[Node] = attrs.field(init=False)
    _nodes: dict[Node, Connections] = attrs.field(factory=dict)
    _map: SlotMap | None = None  # None: to be asked for
    _first: Node | None = None  # who is asked before others: a redirection named it
    _looking: trio.Lock = attrs.field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self._seeds = [(each.host, each.port) for each in self.address.servers]

    async def aclose(self) -> None:
        """See Servers."""
        for each in self._nodes.values():
            await each.aclose()

    async def homes(self, keys: Collection[str]) -> dict[str, list[str]]:
        """By the hash tags of the owners of slots."""
        found = await self._owners()
        homes: dict[str, list[str]] = {tag: [] for tag in found.tags.values()}
        for key in keys:
            homes[found.tags[self._owner(found, key)]].append(key)
        return homes

    async def ask(self, commands: Sequence[Command], allow: Errors = ()) -> list[Any]:
        """See Servers."""
        replies: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for _ in range(1 + REDIRECTIONS):
            found = await self._owners()
            by_owner: defaultdict[Node, list[int]] = defaultdict(list)
            for each in left:
                by_owner[self._owner(found, commands[each].key)].append(each)
            await self._ask_each(by_owner, commands, allow, replies)
            left = [each for each in left if isinstance(replies[each], MovedError)]
            if not left:
                return replies
        raise CacheUnavailable(f"Redis Cluster: redirected {1 + REDIRECTIONS} times, last {replies[left[0]]}")

    async def _ask_each(
        self, by_owner: dict[Node, list[int]], commands: Sequence[Command], allow: Errors, replies: list[Any]
    ) -> None:
        """All at the same time, and all to their end. Raises the first trouble."""
        troubles: list[CacheUnavailable] = []
        async with trio.open_nursery() as nursery:
            for node, some in by_owner.items():
                nursery.start_soon(partial(self._ask_one, node, some, commands, allow, replies, troubles))
        if troubles:
            self._map = None
            raise troubles[0]

    async def _ask_one(
        self,
        node: Node,
        some: Sequence[int],
        commands: Sequence[Command],
        allow: Errors,
        replies: list[Any],
        troubles: list[CacheUnavailable],
    ) -> None:
        try:
            told = await self._at(node).ask([commands[each] for each in some], (*allow, *OF_THE_CLUSTER))
            for each, reply in zip(some, told, strict=True):
                if isinstance(reply, ClusterDownError | TryAgainError):
                    raise CacheUnavailable(f"Redis Cluster: {reply}")
                replies[each] = reply
                if not isinstance(reply, AskError):
                    continue
                there = (reply.host or node[0], reply.port)
                if isinstance(reply, MovedError):  # which is an AskError to redis-py
                    self._map, self._first = None, there
                else:
                    _, replies[each] = await self._at(there).ask([ASKING, commands[each]], allow)
        except CacheUnavailable as trouble:
            troubles.append(trouble)

    async def _owners(self) -> SlotMap:
        async with self._looking:
            if self._map is None:
                self._map = await self._look()
            return self._map

    async def _look(self) -> SlotMap:
        """Whoever answers first: those that did the last time before others."""
        nodes = dict.fromkeys([*self._nodes, *self._seeds])
        order = sorted(nodes, key=lambda node: (node != self._first, self._at(node).in_trouble))
        self._first = None
        troubles = []
        for node in order:
            try:
                (reply,) = await self._at(node).ask([CLUSTER_SLOTS])
                found = slot_map(reply, node[0])
            except (CacheUnavailable, ValueError) as trouble:
                troubles.append(str(trouble))
                continue
            if found.tags:
                await self._forget_others(found)
                return found
            troubles.append(f"Redis at {node[0]}:{node[1]}: no slot has an owner")
        raise CacheUnavailable("; ".join(troubles))

    async def _forget_others(self, found: SlotMap) -> None:
        for node in self._nodes.keys() - found.tags.keys() - set(self._seeds):
            await self._nodes.pop(node).aclose()

    def _at(self, node: Node) -> Connections:
        if node not in self._nodes:
            self._nodes[node] = Connections(self.address.at(*node), self.pause_most_s)
        return self._nodes[node]

    def _owner(self, found: SlotMap, key: str) -> Node:
        node = found.owner(key)
        if node is None:
            self._map = None
            raise CacheUnavailable(f"Redis Cluster: slot {slot_of(key)} has no owner")
        return node
