"""Which server is asked: one, the primary of those that Sentinels watch, or the nodes of a Redis Cluster."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from actors.cache.calls import Command
from actors.cache.cluster import ClusterServers
from actors.cache.connections import PAUSE_MOST_S, Connections, Errors
from actors.cache.sentinel import SentinelServers
from actors.core.addresses import RedisAddress


class Servers(Protocol):
    """Both calls raise CacheUnavailable, within a second or two."""

    async def ask(self, commands: Sequence[Command], allow: Errors = ()) -> list[Any]:
        """The replies, of which those that are errors raise, but for errors of the types in `allow`.

        Commands to one server are done in this order.
        """
        ...

    async def homes(self, keys: Collection[str]) -> dict[str, list[str]]:
        """The keys by the server that holds them: of every server of a cluster, also of those that hold none.

        A server is named by a hash tag whose keys it holds; one alone by "". In a fail-over the name stays.
        """
        ...

    async def aclose(self) -> None:
        """Close idle connections; those in use end with their calls. Never waits."""
        ...


def servers(address: RedisAddress, pause_most_s: float = PAUSE_MOST_S) -> Servers:
    """As `address.mode` says, none connected yet. A server that gives trouble rests for `pause_most_s` at most."""
    match address.mode:
        case "sentinel":
            return SentinelServers(address, pause_most_s)
        case "cluster":
            return ClusterServers(address, pause_most_s)
        case _:
            return Connections(address, pause_most_s)
