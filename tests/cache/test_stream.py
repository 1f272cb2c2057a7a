"""The stream between nodes, in a real Redis."""

from __future__ import annotations

import attrs
import pytest
import trio

from actors.cache.connections import Connections
from actors.cache.stream import KEY, PAUSE_MOST_S, RedisStream
from actors.core.addresses import RedisAddress
from actors.core.errors import CacheUnavailable
from tests.cache.redis_desk import Raw

pytestmark = pytest.mark.live


async def test_who_reads_gets_what_came_since_and_what_comes(redis_process: tuple[RedisAddress, int], raw: Raw) -> None:
    address, _ = redis_process
    one, other = RedisStream(address), RedisStream(address)
    place, found = await other.read("", 0.1)
    assert found == []
    await one.append(b"1")
    await one.append(b"2")
    place, found = await other.read(place, 5.0)
    assert found == [b"1", b"2"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.append, b"3")
        place, found = await other.read(place, 5.0)
        assert found == [b"3"]
    assert await other.read(place, 0.01) == (place, [])
    assert await RedisStream(address).read("", 0.1) == (place, [])
    for each in (one, other):
        await each.aclose()


async def test_old_entries_go(redis_process: tuple[RedisAddress, int], raw: Raw) -> None:
    for number in range(500):
        raw("XADD", KEY, f"1-{number + 1}", "e", "old")
    stream = RedisStream(redis_process[0])
    await stream.append(b"new")
    await stream.append(b"new")
    assert raw("XLEN", KEY) < 300, "Redis takes away whole nodes of a hundred"
    await stream.aclose()


async def test_trouble_is_told_at_once(redis_process: tuple[RedisAddress, int]) -> None:
    stream = RedisStream(attrs.evolve(redis_process[0], port=1))
    with trio.fail_after(2.0):
        with pytest.raises(CacheUnavailable, match="connecting to"):
            await stream.append(b"1")
        with pytest.raises(CacheUnavailable):
            await stream.read("0-0", 0.5)


async def test_who_waits_for_redis_does_not_rest_for_long(redis_process: tuple[RedisAddress, int]) -> None:
    """Nodes are to hear each other within 1 s when it is back, however long it was away."""
    stream = RedisStream(attrs.evolve(redis_process[0], port=1))
    for _ in range(5):
        with pytest.raises(CacheUnavailable):
            await stream.append(b"1")
        await trio.sleep(PAUSE_MOST_S)
    assert isinstance(stream._server, Connections)
    stream._server.address = redis_process[0]
    await stream.append(b"1")
    await stream.aclose()
