"""The probe against real brokers: one that shares, and one that grants and delivers nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from actors.mqtt import probe
from actors.mqtt.events import CannotShare, Subscribed
from actors.mqtt.link import BrokerAddress, MqttLink
from actors.settings.load import Secret
from tests.brokers.servers import DAEMON, start_nats
from tests.kit.servers import Server
from tests.mqtt.mqtt_desk import SETTINGS, address_of, mosquitto, publish, running

pytestmark = pytest.mark.live
BOTH = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


def node(broker: Server, folder: Path, name: str, protocol: str, topics: tuple[str, ...] = ("t/#",)) -> MqttLink:
    settings = evolve(SETTINGS, client_id=name, protocol=protocol, topics=topics)
    (folder / name).mkdir(exist_ok=True)
    return MqttLink(settings, address_of(broker), folder / name, shared_group="g")


@BOTH
async def test_two_nodes_get_each_message_once_between_them(tmp_path: Path, protocol: str) -> None:
    async with mosquitto(tmp_path) as broker:
        first, second = node(broker, tmp_path, "n1", protocol), node(broker, tmp_path, "n2", protocol)
        async with running(first, acks=True) as one, running(second, acks=True) as two:
            await one.connected()
            await two.connected()
            await publish(broker, "t/a", [b"%d" % number for number in range(100)])
            await one.until(lambda: len(one.messages) == 50)
            await two.until(lambda: len(two.messages) == 50)
            assert sorted(map(int, one.payloads + two.payloads)) == list(range(100))


@BOTH
async def test_after_a_restart_of_the_broker_they_share_again(tmp_path: Path, protocol: str) -> None:
    """It keeps what waits for them, and forgets that they share."""
    async with mosquitto(tmp_path) as broker:
        first, second = node(broker, tmp_path, "n1", protocol), node(broker, tmp_path, "n2", protocol)
        async with running(first, acks=True) as one, running(second, acks=True) as two:
            await one.first(Subscribed)
            await two.first(Subscribed)
            await second.disconnect()
            await publish(broker, "t/a", [b"%d" % number for number in range(10)])
            await one.until(lambda: len(one.messages) == 5)
            broker.stop()
            broker.start()
            await one.first(Subscribed, 2)
            async with running(second, acks=True) as again:
                await again.until(lambda: len(again.messages) == 5)
                await again.first(Subscribed)
                await publish(broker, "t/a", [b"%d" % number for number in range(10, 20)])
                await one.until(lambda: len(one.messages) == 10)
                await again.until(lambda: len(again.messages) == 10)
                assert sorted(map(int, one.payloads + again.payloads)) == list(range(20))


@BOTH
async def test_from_alone_to_shared_and_back(tmp_path: Path, protocol: str) -> None:
    """The session keeps what waits in it, and loses the other form."""
    async with mosquitto(tmp_path) as broker:
        shared = node(broker, tmp_path, "n", protocol, ("t/#", "gone/+"))
        settings = evolve(SETTINGS, client_id="n", protocol=protocol)
        alone = MqttLink(settings, address_of(broker), tmp_path / "n")
        known = tmp_path / "n" / "mqtt_topics.json"
        for link, form in ((shared, '"$share/g/gone/+","$share/g/t/#"'), (alone, '"t/#"'), (shared, "")):
            async with running(link, acks=True) as desk:
                await desk.connected()
                await publish(broker, "t/a", [b"now"])
                await desk.until(lambda desk=desk: desk.payloads[-1:] == [b"now"])  # type: ignore[misc]
                await link.disconnect()
            assert not form or known.read_text() == f'{{"n":[{form}]}}'
            await publish(broker, "t/a", [b"while away"])
        async with running(shared, acks=True) as desk:
            await desk.connected()
            await publish(broker, "t/a", [b"last"])
            await desk.until(lambda: desk.payloads[-1:] == [b"last"])
            assert desk.payloads == [b"while away", b"last"]  # each once: there is no plain form beside it


async def test_nats_takes_the_subscription_and_delivers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "PLAIN_S", 1.0)
    with start_nats(tmp_path) as broker:
        settings = evolve(SETTINGS, client_id="n", protocol="auto")
        address = BrokerAddress("127.0.0.1", broker.port, username=DAEMON[0], password=Secret(DAEMON[1]))
        async with running(MqttLink(settings, address, tmp_path, shared_group="g")) as desk:
            reason = (await desk.first(CannotShare)).reason
            assert "let this user read and write g-probe/#" in reason  # with the rights that README gives
