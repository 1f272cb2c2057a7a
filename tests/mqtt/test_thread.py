"""The thread that owns paho: it sleeps until something comes or somebody here wants something, and it is alone."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.mqtt import pace, thread
from actors.mqtt.bell import Bell
from actors.mqtt.connection import BrokerConnection
from actors.mqtt.events import BrokerEvent, MessagesArrived, Subscribed
from actors.mqtt.link import BrokerAddress, MqttLink
from tests.kit.scripted_broker import BrokerSide, ScriptedBroker, scripted_broker
from tests.mqtt.mqtt_desk import SETTINGS, Desk, running


@asynccontextmanager
async def linked(
    folder: Path, gather_s: float = pace.LEAST_S
) -> AsyncIterator[tuple[ScriptedBroker, BrokerSide, MqttLink, Desk]]:
    """Connected, with a message that is not acknowledged."""
    async with scripted_broker() as broker:
        link = MqttLink(SETTINGS, BrokerAddress("127.0.0.1", broker.port), folder, gather_s)
        async with running(link) as desk:
            side = await broker.connected()
            await desk.first(Subscribed)
            await side.publish(b"t/a", b"x", qos=1, packet_id=1)
            await desk.until(lambda: len(desk.messages) == 1)
            yield broker, side, link, desk


@pytest.mark.parametrize("order", ["acknowledge", "publish", "reconnect", "go on"])
async def test_it_is_woken_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """Otherwise every order would wait for its next turn."""
    monkeypatch.setattr(thread, "TURN_S", 60.0)
    async with linked(tmp_path) as (_, side, link, desk):
        link.hold(order == "go on")
        await trio.sleep(0.1)  # it lets messages gather, and sleeps after that
        with trio.fail_after(30):
            match order:
                case "acknowledge":
                    link.acknowledge(1, (1,))
                    await side.until(lambda: side.acks == [1])
                case "publish":
                    link.publish("r", b"y")
                    await side.until(lambda: side.published == [(b"r", b"y")])
                case "reconnect":
                    link.reconnect()
                    await side.closed.wait()
                case "go on":
                    await side.publish(b"t/a", b"held", qos=1, packet_id=2)
                    link.hold(False)
                    await desk.until(lambda: len(desk.messages) == 2)


@pytest.mark.parametrize("more", [True, False])
async def test_what_is_acknowledged_ends_a_pause_only_where_the_broker_may_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    """The acknowledgement itself waits for nothing."""
    monkeypatch.setattr(pace, "MOST_S", 60.0)
    async with linked(tmp_path, gather_s=60.0) as (_, side, link, desk):
        if more:
            await side.publish(b"t/a", b"y", qos=1, packet_id=2)
        link.acknowledge(1, (1,))
        await side.until(lambda: side.acks == [1])
        assert len(desk.messages) == 1
        if not more:
            await side.publish(b"t/a", b"y", qos=1, packet_id=2)
            await desk.until(lambda: len(desk.messages) == 2)


async def test_what_gathered_tells_how_long(tmp_path: Path) -> None:
    async with linked(tmp_path, gather_s=0.05) as (_, side, _, desk):
        await side.publish(b"t/a", b"y", qos=1, packet_id=2)
        await desk.until(lambda: len(desk.messages) == 2)
        first, second = desk.all(MessagesArrived)
        assert first.waited_s == 0
        assert 0 < second.waited_s <= 0.05


async def test_it_does_not_wait_for_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for trio with each batch costs ten times as much; and who is busy here keeps no PINGREQ back."""
    turn, wait = threading.Event(), Bell.wait
    turned: list[bool] = []  # while it was busy with the first event

    def watched(bell: Bell, timeout_s: float, fd: int = -1, events: int = 0) -> int:
        turn.set()
        return wait(bell, timeout_s, fd, events)

    def busy(_event: BrokerEvent) -> None:
        if not turned:
            turn.clear()
            turned.append(turn.wait(10))

    monkeypatch.setattr(Bell, "wait", watched)
    async with scripted_broker() as broker, trio.open_nursery() as nursery:
        await nursery.start(MqttLink(SETTINGS, BrokerAddress("127.0.0.1", broker.port), tmp_path).run, busy)
        side = await broker.connected()
        await side.until(lambda: bool(turned))
        nursery.cancel_scope.cancel()
    assert turned == [True]


async def test_nobody_else_touches_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An acknowledgement from a second thread corrupts what the first one writes."""
    users: set[int] = set()

    def watched(self: object, name: str) -> Any:
        users.add(threading.get_ident())
        return object.__getattribute__(self, name)

    monkeypatch.setattr(BrokerConnection, "__getattribute__", watched)
    async with linked(tmp_path) as (broker, side, link, _):
        link.hold(True)
        link.acknowledge(1, (1,))
        link.publish("r", b"y")
        link.hold(False)
        await side.until(lambda: side.acks == [1] and side.published == [(b"r", b"y")])
        link.reconnect()
        await broker.connected()
        await link.disconnect()
    assert len(users) == 1
    assert threading.get_ident() not in users
