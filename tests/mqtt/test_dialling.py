"""Names of brokers, and name servers that do not answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from actors.mqtt import dialling
from actors.mqtt.link import BrokerAddress, MqttLink
from tests.kit.names import Names
from tests.mqtt.mqtt_desk import SETTINGS, running


async def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    link = MqttLink(SETTINGS, BrokerAddress("no-such-host.invalid", 1883), tmp_path)
    async with running(link) as desk:
        assert (await desk.disconnected()).reason
        await link.disconnect()


async def test_a_name_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "CONNECT_TIMEOUT_S", 0.2)
    trio.socket.set_custom_hostname_resolver(Names([]))
    link = MqttLink(SETTINGS, BrokerAddress("broker.example", 1883), tmp_path)
    async with running(link) as desk:
        assert (await desk.disconnected()).reason == "the name server did not answer within 0.2 s"
        await link.disconnect()
