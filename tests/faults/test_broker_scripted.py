"""A broker that does what no broker should, against the whole daemon: what it handed over is stored once, acknowledged
once, in order, and never on another connection. Against the driver alone: tests/mqtt/test_scripted.py.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors.core.addresses import RedisAddress
from tests.kit.daemon import Running, external, started, until, write_settings
from tests.kit.expected import fix, fix_id, now_ms
from tests.kit.metrics import conserved
from tests.kit.scripted_broker import BrokerSide, ScriptedBroker, scripted_broker
from tests.kit.servers import free_port
from tests.kit.stores import Database

pytestmark = pytest.mark.live

TOPIC = b"tracking/x/position"
RECEIVE_MAXIMUM = 100
ALL_SILENT = ("connack", "suback", "pingresp", "in a packet")


@attrs.define(eq=False)
class Place:
    """The daemon, its broker and its database."""

    broker: ScriptedBroker
    database: Database
    running: Running
    settings: Path
    sent: dict[str, dict[str, Any]] = attrs.field(factory=dict)  # row id -> fix

    def fixes(self, race: str, count: int) -> list[dict[str, Any]]:
        made = [fix(race, f"P{number}", now_ms() + number) for number in range(count)]
        self.sent |= {fix_id(one): one for one in made}
        return made

    async def hand_over(self, side: BrokerSide, fixes: Sequence[dict[str, Any]], **more: Any) -> None:
        """Packet ids from 1, all in one write."""
        payloads = (json.dumps(one).encode() for one in fixes)
        await side.send(
            b"".join(
                side.publish_bytes(TOPIC, payload, 1, number, **more) for number, payload in enumerate(payloads, 1)
            )
        )

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Nothing can be stored, so nothing may be acknowledged."""
        await self.database.run("begin; lock table tracking_positions in exclusive mode")
        yield
        await self.database.run("commit")

    async def until_metric(self, name: str, value: float) -> None:
        """Until it is as large. The broker is of this thread: the daemon is asked on another one."""
        await trio.to_thread.run_sync(until, lambda: self.running.metrics()[f"tracking_{name}"] >= value, name, 60)

    async def metric(self, name: str) -> float:
        return (await trio.to_thread.run_sync(self.running.metrics))[f"tracking_{name}"]

    async def is_ready(self) -> bool:
        """It takes fixes."""
        return (await trio.to_thread.run_sync(self.running.get, "/readyz/ingest"))[0] == 200

    async def check(self) -> None:
        """All of it is stored, and nothing else; the law holds."""
        with trio.fail_after(60):
            while await self.metric("fixes_in_flight"):
                await trio.sleep(0.05)
        rows = await self.database.rows("select id::text from tracking_positions order by 1")
        assert [row_id for (row_id,) in rows] == sorted(self.sent)
        seen = await trio.to_thread.run_sync(self.running.metrics)
        assert conserved(seen), seen
        assert seen["tracking_acks_total"] <= seen["tracking_messages_received_total"]


@pytest.fixture
async def place(tmp_path: Path, database: Database, redis_process: tuple[RedisAddress, int]) -> AsyncIterator[Place]:
    async with scripted_broker() as broker:
        broker.accept(session_present=True)
        sections = external(broker.port, redis_process[0], database.address, port := free_port())
        sections["mqtt"] |= {"keepalive_s": 2, "receive_maximum": RECEIVE_MAXIMUM}
        sections["postgres"] |= {"spool": "no"}
        settings = write_settings(tmp_path, sections)
        with started(settings, port) as running:
            yield Place(broker, database, running, settings)
            running.kill()  # a drain would wait for this thread


async def subscribed(broker: ScriptedBroker) -> BrokerSide:
    """The next connection, when it has asked for its topics."""
    while True:
        side = await broker.connected()
        await side.until(partial(_is_decided, side))
        if side.subscribed.is_set():
            return side


def _is_decided(side: BrokerSide) -> bool:
    """A connection may end before: it only asked for the version of MQTT."""
    return side.subscribed.is_set() or side.closed.is_set()


async def ready(place: Place) -> BrokerSide:
    """The first connection of a daemon that has its tables."""
    side = await subscribed(place.broker)
    with trio.fail_after(60):
        while not await place.is_ready():
            await trio.sleep(0.05)
    return side


async def test_receive_maximum_overrun_tenfold(place: Place) -> None:
    side = await ready(place)
    count = 10 * RECEIVE_MAXIMUM
    async with place.locked():
        await place.hand_over(side, place.fixes("overrun", count))
        await place.until_metric("messages_received_total", RECEIVE_MAXIMUM)
        await side.until(lambda: side.pings >= 2)
        assert side.acks == []
    await side.until(lambda: len(side.acks) == count)
    assert side.acks == list(range(1, count + 1))
    await place.check()


async def test_packet_ids_come_again_on_the_next_connection(place: Place) -> None:
    """For other messages: what was settled late of the connection before must not acknowledge them."""
    side = await ready(place)
    async with place.locked():
        await place.hand_over(side, place.fixes("first", 50))
        await place.until_metric("messages_received_total", 50)
        await side.disconnect(0x8B)
        side = await subscribed(place.broker)
        await place.hand_over(side, place.fixes("second", 50), dup=True)  # first seen, and marked as seen before
        await place.until_metric("messages_received_total", 100)
        assert side.acks == []
    await side.until(lambda: len(side.acks) == 50)
    assert side.acks == list(range(1, 51))
    await place.check()


async def test_a_forgotten_session_and_a_refused_connection(place: Place) -> None:
    side = await ready(place)
    place.broker.accept(code=0x88)
    await side.stream.aclose()
    await place.broker.connected()
    place.broker.accept(session_present=False)
    side = await subscribed(place.broker)
    await place.until_metric("mqtt_session_lost_total", 1)
    await place.hand_over(side, place.fixes("after", 20))
    await side.until(lambda: side.acks == list(range(1, 21)))
    await place.check()


async def test_what_breaks_the_rules_among_good_messages(place: Place) -> None:
    side = await ready(place)
    good = place.fixes("good", 3)
    await side.publish(b"", json.dumps(good[0]).encode(), qos=1, packet_id=1)
    await side.publish(b"\xff\xfe", json.dumps(good[1]).encode(), qos=1, packet_id=2)
    await side.publish(TOPIC, json.dumps(good[2]).encode(), qos=1, packet_id=0)
    for number, payload in enumerate((b"", b"\xff\x00", b"[]", b"{}", b"[[]]", bytes(300_000)), 3):
        await side.publish(TOPIC, payload, qos=1, packet_id=number)
    await side.until(lambda: side.acks == [1, 2, 3, 4, 5, 6, 7, 8])
    await place.check()
    assert await place.metric("fixes_rejected_total") == 5, "all but the empty array"
    (count,) = await place.database.rows("select count(*)::text from tracking_rejections")
    assert count == ["5"]


@pytest.mark.parametrize("point", ALL_SILENT)
async def test_silent(place: Place, point: str) -> None:
    """Wherever it falls silent: the daemon comes again, and what was not acknowledged is taken then."""
    side = await ready(place)
    fixes = place.fixes("silent", 30)
    if point == "connack":
        place.broker.connack = None
        await side.stream.aclose()
        await place.broker.connected()
        place.broker.accept(session_present=True)
    elif point == "suback":
        place.broker.answers = False
        await side.stream.aclose()
        side = await subscribed(place.broker)
        await place.hand_over(side, fixes[:10])
    elif point == "pingresp":
        place.broker.answers = False
        await place.hand_over(side, fixes[:10])
    else:
        await place.hand_over(side, fixes[:10])
        await side.send(side.publish_bytes(TOPIC, json.dumps(fixes[10]).encode(), 1, 11)[:-20])
        place.broker.answers = False
    with trio.fail_after(60):
        side = await subscribed(place.broker)
        place.broker.answers = True
        while not await place.is_ready():
            if side.closed.is_set():
                side = await subscribed(place.broker)
            await trio.sleep(0.05)
    await place.hand_over(side, fixes)
    await side.until(lambda: side.acks == list(range(1, 31)))
    await place.check()
