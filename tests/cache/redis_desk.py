"""The store on a Valkey of its own, and a look into that server past the store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis
import trio

from actors.cache.connections import CLIENT_NAME, Connections
from actors.cache.redis import RedisStore
from actors.core.addresses import RedisAddress

LAST = "race:R1:participant:P001:last"


class Raw:
    """Looks into the server past the store."""

    def __init__(self, address: RedisAddress) -> None:
        self.client = redis.Redis(port=address.port, password=address.password.reveal(), protocol=2)
        self._ask: Callable[..., Any] = self.client.execute_command

    def __call__(self, *command: str | int | bytes) -> Any:
        return self._ask(*command)

    def value(self, key: str) -> dict[str, object]:
        decoded: dict[str, object] = json.loads(self("GET", key))
        return decoded

    def clients(self) -> list[str]:
        """The id of each connection of the store."""
        return [client["id"] for client in self.client.client_list() if client["name"] == CLIENT_NAME]

    async def until_closed(self, *ids: str) -> None:
        """The server learns a little later that these, or all when none is named, are closed."""
        with trio.fail_after(30):
            while (left := self.clients()) and (not ids or set(ids) & set(left)):
                await trio.sleep(0.01)


def only_server(store: RedisStore) -> Connections:
    """The one of this store, which is no cluster."""
    assert isinstance(store._server, Connections)
    return store._server


@pytest.fixture
def raw(redis_process: tuple[RedisAddress, int]) -> Iterator[Raw]:
    raw = Raw(redis_process[0])
    raw("FLUSHALL")
    yield raw
    raw("CONFIG", "SET", "maxmemory", 0)
    raw.client.close()


@pytest.fixture
async def store(redis_process: tuple[RedisAddress, int], raw: Raw) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_process[0], "node-1", 600)
    yield store
    await store.aclose()
