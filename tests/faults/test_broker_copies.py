"""A broker that sends what is not acknowledged again and again, or gives its packet id to something else meanwhile:
the daemon holds every message once, and acknowledges none before it is stored.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.core.addresses import RedisAddress
from tests.faults.test_broker_scripted import TOPIC, Place, ready, subscribed
from tests.kit.daemon import external, started, write_settings
from tests.kit.scripted_broker import BrokerSide, scripted_broker
from tests.kit.servers import free_port
from tests.kit.stores import Database

pytestmark = pytest.mark.live

MESSAGES = 70_000
"""More than there are packet ids."""


@pytest.fixture
async def place(tmp_path: Path, database: Database, redis_process: tuple[RedisAddress, int]) -> AsyncIterator[Place]:
    """The broker speaks 3.1.1: it may send as much ahead as it likes."""
    async with scripted_broker(protocol=4) as broker:
        broker.accept(session_present=True)
        sections = external(broker.port, redis_process[0], database.address, port := free_port())
        sections["mqtt"] |= {"protocol": "3.1.1", "receive_maximum": 65_535}
        sections["postgres"] |= {"spool": "no", "queue_rows": 2 * MESSAGES}
        settings = write_settings(tmp_path, sections)
        with started(settings, port) as running:
            yield Place(broker, database, running, settings)
            running.kill()  # a drain would wait for this thread


def packets(side: BrokerSide, fixes: list[dict[str, Any]], first: int, qos: int = 1, *, dup: bool = False) -> bytes:
    """Packet ids from `first`, after 65,535 comes 1."""
    return b"".join(
        side.publish_bytes(TOPIC, json.dumps(one).encode(), qos, (first + n - 1) % 65_535 + 1, dup=dup)
        for n, one in enumerate(fixes)
    )


async def test_copies_while_nothing_can_be_stored(place: Place) -> None:
    """On one connection, as NATS does, and on one after the other, as iotcore does; then all is stored once."""
    side = await ready(place)
    fixes = place.fixes("copies", 500)
    async with place.locked():
        await side.send(packets(side, fixes, 1))
        for times in range(1, 4):
            await side.send(packets(side, fixes, 1, dup=True))
            await place.until_metric("mqtt_copies_total", 500 * times)
        for times in range(4, 8):
            await side.stream.aclose()
            side = await subscribed(place.broker)
            await side.send(packets(side, fixes[100:], 1) + packets(side, fixes[:100], 401))
            await place.until_metric("mqtt_copies_total", 500 * times)
        assert await place.metric("fixes_in_flight") == 500
        assert side.acks == []
    await side.until(lambda: len(side.acks) == 500)
    assert side.acks == list(range(1, 501))
    await place.check()
    assert await place.metric("fixes_duplicate_total") == 0


async def test_qos_2_is_acknowledged_when_it_is_stored(place: Place) -> None:
    """Killed before that, the daemon gets it again."""
    side = await ready(place)
    fixes = place.fixes("two", 50)
    async with place.locked():
        await side.send(packets(side, fixes, 1, 2))
        await place.until_metric("messages_received_total", 50)
        await side.until(lambda: side.pings >= 1)
        assert side.pubrecs == []
        place.running.kill()
    with started(place.settings, place.running.port) as place.running:
        side = await ready(place)
        await side.send(packets(side, fixes, 1, 2, dup=True))
        await side.until(lambda: len(side.pubrecs) == 50)
        assert side.pubrecs == list(range(1, 51))
        await place.check()


async def test_packet_ids_in_use_for_something_else(place: Place) -> None:
    """As aedes does after a reconnect: a new series, from anywhere."""
    side = await ready(place)
    one, other = place.fixes("one", 300), place.fixes("other", 300)
    async with place.locked():
        await side.send(packets(side, one, 1) + packets(side, other, 201))
        await place.until_metric("messages_received_total", 600)
    await side.until(lambda: len(side.acks) == 500)
    assert side.acks == [*range(1, 201), *range(201, 501)]
    assert await place.metric("acks_total") == 600
    await place.check()


async def test_packet_ids_wrap_while_nothing_can_be_stored(place: Place) -> None:
    """None comes twice unacknowledged: it is not read any more before that."""
    side = await ready(place)
    fixes, first = place.fixes("wraps", MESSAGES), 40_000
    async with trio.open_nursery() as nursery, place.locked():
        nursery.start_soon(side.send, packets(side, fixes, first))
        await place.until_metric("in_flight_ratio", 1)
        taken = [0.0]
        while taken[-10:] != taken[-1:] * 10:
            await trio.sleep(0.1)
            taken.append(await place.metric("messages_received_total"))
        assert 50_000 <= taken[-1] < 65_535
        assert side.acks == []
    await side.until(lambda: len(side.acks) == MESSAGES)
    assert side.acks == [(first + n - 1) % 65_535 + 1 for n in range(MESSAGES)]
    await place.check()
