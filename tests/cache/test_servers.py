"""Which server is asked."""

from __future__ import annotations

import pytest

from actors.cache.cluster import ClusterServers
from actors.cache.connections import Connections
from actors.cache.sentinel import SentinelServers
from actors.cache.servers import servers
from actors.core.addresses import RedisAddress


@pytest.mark.parametrize(
    ("mode", "kind"), [("single", Connections), ("sentinel", SentinelServers), ("cluster", ClusterServers)]
)
async def test_by_the_mode(mode: str, kind: type) -> None:
    made = servers(RedisAddress(mode=mode))
    assert isinstance(made, kind)
    await made.aclose()


@pytest.mark.parametrize("mode", ["single", "sentinel"])
async def test_one_server_is_home_to_all(mode: str) -> None:
    assert await servers(RedisAddress(mode=mode)).homes(["a", "b"]) == {"": ["a", "b"]}
