"""The thread that owns paho sleeps until something comes from the broker, and until somebody here wants something."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.drivers import mqtt_thread
from actors.drivers.mqtt import BrokerAddress, MqttLink
from actors.drivers.mqtt_connection import Connection
from tests.actors.scripted_broker import scripted_broker
from tests.live.mqtt_desk import SETTINGS, running


@pytest.mark.parametrize("order", ["acknowledge", "publish", "reconnect", "go on"])
async def test_it_is_woken_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """Otherwise every order would wait for its next turn."""
    monkeypatch.setattr(mqtt_thread, "TURN_S", 60.0)
    async with scripted_broker() as broker:
        link = MqttLink(SETTINGS, BrokerAddress("127.0.0.1", broker.port), tmp_path)
        async with running(link) as desk:
            side = await broker.connected()
            await side.publish(b"t/a", b"x", qos=1, packet_id=1)
            await desk.until(lambda: len(desk.messages) == 1)
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


async def test_nobody_else_touches_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN rule 3: an acknowledgement from a second thread corrupts what the first one writes."""
    users: set[int] = set()

    def watched(self: object, name: str) -> Any:
        users.add(threading.get_ident())
        return object.__getattribute__(self, name)

    monkeypatch.setattr(Connection, "__getattribute__", watched)
    async with scripted_broker() as broker:
        link = MqttLink(SETTINGS, BrokerAddress("127.0.0.1", broker.port), tmp_path)
        async with running(link) as desk:
            side = await broker.connected()
            await side.publish(b"t/a", b"x", qos=1, packet_id=1)
            await desk.until(lambda: len(desk.messages) == 1)
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
