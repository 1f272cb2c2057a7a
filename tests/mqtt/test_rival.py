"""The MQTT driver told apart: another client with our client_id, a broker that restarts, a network in trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
from attrs import evolve

from actors.core.addresses import Address
from actors.mqtt import thread
from actors.mqtt.events import Disconnected, Subscribed, TakenOver
from actors.mqtt.link import BrokerAddress, MqttLink
from actors.mqtt.rival import Rival
from actors.mqtt.socket import BufferedSocket
from tests.kit.client import reset_on_close
from tests.kit.scripted_broker import PUBLISH, BrokerSide, ScriptedBroker, packet, scripted_broker
from tests.mqtt.mqtt_desk import SETTINGS, Desk, running

pytestmark = pytest.mark.live
Ends: TypeAlias = Callable[[BrokerSide], Awaitable[None]]
GIVEN_UP = TakenOver("me", times=3, within_s=5.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of 0.1 s: the row of three is what counts."""
    monkeypatch.setattr(thread, "RETRY_S", (0.1, 0.1))
    monkeypatch.setattr(thread, "UNWANTED_RETRY_S", (0.1, 0.1))


@asynccontextmanager
async def in_trouble(folder: Path, protocol: int = 5) -> AsyncIterator[tuple[ScriptedBroker, Desk]]:
    """The driver, connected to a broker that the test lets down again and again."""
    async with scripted_broker(protocol=protocol) as broker:
        settings = evolve(SETTINGS, client_id="me", protocol={5: "5", 4: "3.1.1"}[protocol])
        async with running(MqttLink(settings, BrokerAddress("127.0.0.1", broker.port), folder)) as desk:
            yield broker, desk


async def end_next(broker: ScriptedBroker, end: Ends, *, times: int = 1) -> None:
    for _ in range(times):
        side = await broker.connected()
        await side.subscribed.wait()
        await end(side)


async def closed(side: BrokerSide) -> None:
    """As mosquitto 2.0.11 does at a take-over."""
    await side.stream.aclose()


async def said(side: BrokerSide) -> None:
    await side.disconnect(0x8E)


async def reset(side: BrokerSide) -> None:
    reset_on_close(side.stream)
    await side.stream.aclose()


async def cut(side: BrokerSide) -> None:
    await side.send(packet(PUBLISH, b"\0\1t\0\1\0payload", 2)[:-3])
    await side.stream.aclose()


async def not_wanted(side: BrokerSide) -> None:
    await side.disconnect(0x97)  # quota exceeded


@pytest.mark.parametrize(("end", "protocol"), [(closed, 5), (closed, 4), (said, 5)])
async def test_thrown_out_three_times_it_tries_no_more(tmp_path: Path, end: Ends, protocol: int) -> None:
    async with in_trouble(tmp_path, protocol) as (broker, desk):
        await end_next(broker, end, times=3)
        assert await desk.first(TakenOver) == GIVEN_UP
        await trio.sleep(0.5)  # five waits: it would be back
        assert broker.attempts_waiting == 0
        assert len(desk.all(TakenOver)) == 1


async def test_disconnect_returns_after_it_has_given_up_and_a_second_run_does_not_begin_anew(tmp_path: Path) -> None:
    async with in_trouble(tmp_path) as (broker, desk):
        await end_next(broker, said, times=3)
        await desk.first(TakenOver)
        with trio.fail_after(30):
            await desk.link.disconnect()
        async with running(desk.link) as again:
            assert await again.first(TakenOver) == GIVEN_UP
        assert broker.attempts_waiting == 0
        desk.link.begin_anew()
        async with running(desk.link) as anew:
            await broker.connected()
            await anew.first(Subscribed)


@pytest.mark.parametrize("end", [reset, cut, not_wanted])
async def test_what_is_no_take_over_does_not_count(tmp_path: Path, end: Ends) -> None:
    async with in_trouble(tmp_path) as (broker, desk):
        await end_next(broker, end, times=5)
        await desk.connected(6)
        assert not desk.all(TakenOver)
        await end_next(broker, closed, times=2)  # the sixth, and one more
        await desk.connected(8)
        await end_next(broker, closed)
        await desk.first(TakenOver)


async def test_a_connection_that_lasts_ends_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_trouble(tmp_path) as (broker, desk):
        await end_next(broker, closed, times=2)
        monkeypatch.setattr(thread, "STEADY_S", 0.0)
        await end_next(broker, closed)
        await desk.connected(4)
        monkeypatch.undo()
        await end_next(broker, closed, times=2)
        await desk.connected(6)
        assert not desk.all(TakenOver)


@pytest.mark.parametrize("refusal", [None, 0x88])
async def test_an_attempt_that_fails_ends_the_row(tmp_path: Path, refusal: int | None) -> None:
    """A CONNACK that says no, or none: the broker is on its way down or up."""
    async with in_trouble(tmp_path) as (broker, desk):
        await end_next(broker, closed)
        side = await broker.connected()
        await side.subscribed.wait()
        if refusal is None:
            broker.connack = None
        else:
            broker.accept(code=refusal)
        await side.stream.aclose()
        side = await broker.connected()
        broker.accept()
        await side.stream.aclose()
        await end_next(broker, closed, times=2)
        await desk.connected(5)
        assert not desk.all(TakenOver)


async def test_a_broker_that_closes_the_witness_too_is_restarting(tmp_path: Path) -> None:
    """Its port stays open all the time, so that nothing but the witness tells."""
    async with in_trouble(tmp_path) as (broker, desk):
        await end_next(broker, closed, times=2)  # from the first one on there is a witness
        await end_next(broker, lambda _side: broker.hang_up(), times=6)
        await desk.connected(9)
        assert not desk.all(TakenOver)


async def test_without_a_witness_there_is_no_telling() -> None:
    def refused() -> BufferedSocket:
        raise ConnectionRefusedError

    rival = Rival(thrown_out=2)
    rival.doubt(Address("b", 1883), refused)
    rival.decide()
    assert rival.thrown_out == 0


async def test_what_was_not_acknowledged_comes_again_so_nobody_else_had_the_session(tmp_path: Path) -> None:
    """A network that closes only our connection, time and again: the broker sends again what nobody acknowledged."""
    async with in_trouble(tmp_path) as (broker, desk):
        for number in range(6):
            side = await broker.connected()
            await side.subscribed.wait()
            await side.publish(b"t/a", b"again and again", qos=1, packet_id=7, dup=number > 0)
            await delivered(desk, number + 1)
            await side.stream.aclose()
        await desk.connected(7)
        assert not desk.all(TakenOver)


async def test_what_was_not_acknowledged_is_gone_because_another_one_has_done_it(tmp_path: Path) -> None:
    async with in_trouble(tmp_path) as (broker, desk):
        for number in range(3):
            side = await broker.connected()
            await side.subscribed.wait()
            await side.publish(b"t/a", b"new each time", qos=1, packet_id=7 + number)
            await delivered(desk, number + 1)
            await side.stream.aclose()
        await desk.first(TakenOver)


async def delivered(desk: Desk, messages: int) -> None:
    await desk.until(lambda: len(desk.messages) == messages)


async def test_held_it_notices_too(tmp_path: Path) -> None:
    async with in_trouble(tmp_path) as (broker, desk):
        side = await broker.connected()
        await desk.first(Subscribed)
        desk.link.hold(True)
        await trio.sleep(0.5)  # longer than a turn: the thread has seen it
        await side.stream.aclose()
        assert await desk.disconnected() == Disconnected(1, "connection lost while held")
        await end_next(broker, closed, times=2)
        await desk.first(TakenOver)
