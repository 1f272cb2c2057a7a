"""A short connection with a clean session, and all the ways in which it ends."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TypeVar

import pytest
import trio
from attrs import evolve

from actors.core.addresses import Address, Secret
from actors.mqtt.end import Ending, How
from actors.mqtt.socket import dial
from actors.mqtt.visit import Visit
from tests.kit.scripted_broker import CONNECT, PINGRESP, BrokerSide, packet, scripted_broker
from tests.mqtt.mqtt_desk import SETTINGS

T = TypeVar("T")
BOTH = pytest.mark.parametrize("protocol", [5, 4])


def wait(timeout_s: float, fd: int, events: int) -> int:
    poll = select.poll()
    poll.register(fd, events)
    return next((happened for _, happened in poll.poll(timeout_s * 1000)), 0)


def visit_to(port: int, protocol: int = 5) -> Visit:
    settings = evolve(SETTINGS, client_id="me", protocol={5: "5", 4: "3.1.1"}[protocol])
    sock = dial([(2, ("127.0.0.1", port))], "127.0.0.1", None, wait)
    return Visit(sock, Address("127.0.0.1", port), settings, ("", Secret()), wait)


async def here(call: Callable[[], T]) -> T:
    """While the broker goes on."""
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(call)


@BOTH
async def test_a_clean_session_that_ends_with_the_connection(protocol: int) -> None:
    async with scripted_broker(protocol=protocol) as broker:
        visit = visit_to(broker.port, protocol)
        assert await here(visit.begin)
        side = await broker.connected()
        connect = side.received[0]
        assert connect.kind == CONNECT
        assert connect.body[7] == 2
        if protocol == 5:
            assert b"\x11\0\0\0\0" in connect.body  # session expiry
        assert visit.end() == Ending(How.OURS, "disconnected", accepted=True)
        await side.closed.wait()
        assert side.said_goodbye
        assert visit.end().how is How.OURS  # a second time


async def test_what_came_is_kept() -> None:
    async with scripted_broker() as broker:
        visit = visit_to(broker.port)
        assert await here(visit.begin)
        side = await broker.connected()
        await side.publish(b"t", b"one")
        await side.publish(b"t", b"two", qos=1, packet_id=1)
        assert await here(lambda: visit.until(lambda: len(visit.arrivals.messages) == 2, 30))
        assert visit.arrivals.messages == [(b"t", b"one"), (b"t", b"two")]
        assert not await here(lambda: visit.until(lambda: False, 0.05))
        visit.end()
        await side.closed.wait()
        assert side.acks == []


@pytest.mark.parametrize("code", [0x87, 0x84])
async def test_refused(code: int) -> None:
    async with scripted_broker() as broker:
        broker.accept(code=code)
        visit = visit_to(broker.port)
        assert not await here(visit.begin)
        ending = visit.end()
        assert (ending.how, ending.code, ending.accepted) == (How.REFUSED, code, False)
        assert not (await broker.connected()).said_goodbye


async def test_no_connack() -> None:
    async with scripted_broker() as broker:
        broker.connack = None
        visit = visit_to(broker.port)
        assert not await here(lambda: visit.begin(0.2))
        assert visit.end() == Ending(How.SILENT, "no answer to CONNECT within 0.2 s")


async def closes(side: BrokerSide) -> None:
    await side.stream.aclose()


async def says(side: BrokerSide) -> None:
    await side.disconnect(0x8B)


async def garbles(side: BrokerSide) -> None:
    await side.send(b"\xf0\xff\xff\xff\xff\xff")
    await side.stream.aclose()


@pytest.mark.parametrize(
    ("end", "how", "text"),
    [
        (closes, How.CLOSED, "connection lost"),
        (says, How.SAID, "the broker disconnected us: Server shutting down"),
        (garbles, How.LOST, "connection lost"),
    ],
)
async def test_the_broker_ends_it(end: Callable[[BrokerSide], object], how: How, text: str) -> None:
    async with scripted_broker() as broker:
        visit = visit_to(broker.port)
        assert await here(visit.begin)
        side = await broker.connected()
        visit.published = "t"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, side)  # type: ignore[arg-type]
            assert not await here(lambda: visit.until(lambda: False, 30))
        ending = visit.end()
        assert (ending.how, ending.accepted, ending.published) == (how, True, "t")
        assert ending.text.startswith(text)


async def test_something_else_instead_of_connack() -> None:
    async with scripted_broker() as broker:
        broker.connack = None
        visit = visit_to(broker.port)
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                side = await broker.connected()
                await side.send(packet(PINGRESP, b"too long") + b"\x20\x00")
                await side.stream.aclose()

            nursery.start_soon(answer)
            assert not await here(visit.begin)
        assert visit.end().text.endswith(" before CONNACK")
