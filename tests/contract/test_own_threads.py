"""Each driver has threads of its own: while others hold all that there are for everybody, it works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from actors.cache.redis import RedisStore
from actors.core.addresses import RedisAddress
from actors.history.spool.spool import SpoolOnDisk
from actors.mqtt.link import BrokerAddress, MqttLink
from tests.history.spool.spool_child import PLENTY
from tests.kit.making import make_fix
from tests.kit.scripted_broker import scripted_broker
from tests.mqtt.mqtt_desk import SETTINGS, running


@asynccontextmanager
async def everybodys_threads_taken() -> AsyncIterator[None]:
    limiter = trio.to_thread.current_default_thread_limiter()
    limiter.total_tokens = 1
    async with limiter:
        with trio.fail_after(30):
            yield


async def test_mqtt(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        link = MqttLink(SETTINGS, BrokerAddress("127.0.0.1", broker.port), tmp_path)
        async with everybodys_threads_taken(), running(link) as desk:
            await desk.connected()


async def test_the_spool(tmp_path: Path) -> None:
    spool = SpoolOnDisk(tmp_path / "spool.sqlite", PLENTY)
    async with everybodys_threads_taken():
        await spool.open()
        assert await spool.put([make_fix()], []) == 1
        await spool.aclose()


@pytest.mark.live
async def test_redis(redis_process: tuple[RedisAddress, int]) -> None:
    store = RedisStore(redis_process[0], "node-1", 600)
    async with everybodys_threads_taken():
        await store.newest("R1")
        await store.aclose()
