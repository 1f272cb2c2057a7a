"""A node that leaves: unsubscribed, drained, and its session ended at the broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from actors.mqtt.events import Disconnected, Subscribed, Unsubscribed
from actors.mqtt.link import BrokerAddress, MqttLink
from tests.kit.scripted_broker import CONNECT, UNSUBSCRIBE, scripted_broker
from tests.kit.servers import free_port
from tests.mqtt.mqtt_desk import SETTINGS, address_of, mosquitto, publish, running

BOTH = pytest.mark.parametrize("protocol", [5, 4])
NAME = {5: "5", 4: "3.1.1"}


def link_to(port: int, folder: Path, protocol: int = 5) -> MqttLink:
    settings = evolve(SETTINGS, client_id="me", protocol=NAME[protocol])
    return MqttLink(settings, BrokerAddress("127.0.0.1", port), folder)


@BOTH
async def test_unsubscribed_and_the_session_ended(tmp_path: Path, protocol: int) -> None:
    known = tmp_path / "mqtt_topics.json"
    known.write_text('{"me":["old/#","t/#"],"other":["x"]}')
    async with scripted_broker(protocol=protocol) as broker:
        link = link_to(broker.port, tmp_path, protocol)
        async with running(link) as desk:
            side = await broker.connected()
            await side.subscribed.wait()
            link.leave()
            assert await desk.first(Unsubscribed) == Unsubscribed(1)
            assert side.unsubscribed == ["t/#"]  # "old/#": there was no session
            link.leave()
            assert await desk.first(Unsubscribed, 2) == Unsubscribed(2)
            assert await link.end_session() == ""
            await side.closed.wait()
            last = await broker.connected()
            connect = last.received[0]
            assert connect.kind == CONNECT
            assert connect.body.endswith(b"\0\2me")
            assert connect.body[7] == 2  # clean
            assert not last.filters
    assert known.read_text() == '{"me":{"asked":[]},"other":["x"]}'


async def test_what_was_removed_from_the_settings_goes_too(tmp_path: Path) -> None:
    (tmp_path / "mqtt_topics.json").write_text('{"me":["old/#","t/#"]}')
    async with scripted_broker() as broker:
        broker.accept(session_present=True)
        broker.forbids = lambda one: one.kind == UNSUBSCRIBE  # not answered: the session may hold it still
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            await desk.disconnected()
            broker.forbids = lambda _one: False
            link.leave()
            assert await desk.first(Unsubscribed) == Unsubscribed(1)
            assert not (await link.end_session())
    assert (tmp_path / "mqtt_topics.json").read_text() == '{"me":{"asked":[]}}'


async def test_it_subscribes_before_it_unsubscribes_and_does_so_again_on_the_next_connection(tmp_path: Path) -> None:
    """RabbitMQ 3.10 unsubscribes only what the connection has subscribed to."""
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            link.leave()
            side = await broker.connected()
            await desk.first(Unsubscribed)
            assert side.filters == [("t/#", 1)]
            await side.stream.aclose()
            again = await broker.connected()
            await desk.first(Unsubscribed, 2)
            assert (again.filters, again.unsubscribed) == ([("t/#", 1)], ["t/#"])
            assert desk.all(Unsubscribed) == [Unsubscribed(1)] * 2
            broker.connack = None
            await again.stream.aclose()
            await desk.first(Disconnected, 2)


async def test_a_refused_subscription_is_no_obstacle_and_not_asked_for_again(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        broker.suback = b"\x87"
        link = link_to(broker.port, tmp_path)
        async with running(link) as desk:
            link.leave()
            side = await broker.connected()
            await desk.first(Unsubscribed)
            assert side.unsubscribed == ["t/#"]


WHY = {"refuses": "the broker refused us: Not authorized", "away": "cannot connect: Connection refused"}


@pytest.mark.parametrize("how", WHY)
async def test_a_broker_that_keeps_the_session(tmp_path: Path, how: str) -> None:
    async with scripted_broker() as broker:
        link = link_to(broker.port if how == "refuses" else free_port(), tmp_path)
        async with running(link) as desk:
            if how == "refuses":
                await desk.first(Subscribed)
                broker.accept(code=0x87)
            else:
                await desk.disconnected()
            why = await link.end_session()
            assert why == WHY[how]
        known = tmp_path / "mqtt_topics.json"
        assert how == "away" or known.read_text() == '{"me":["t/#"]}'
    assert await link.end_session() == "not connected"


@pytest.mark.live
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_mosquitto_forgets_the_session(tmp_path: Path, protocol: str) -> None:
    async with mosquitto(tmp_path) as broker:
        settings = evolve(SETTINGS, client_id="me", protocol=protocol)
        link = MqttLink(settings, address_of(broker), tmp_path)
        async with running(link, acks=True) as desk:
            await desk.connected()
            await link.disconnect()
        await publish(broker, "t/a", [b"waits"])
        async with running(link, acks=True) as desk:
            assert (await desk.connected()).session_present
            await desk.until(lambda: desk.payloads == [b"waits"])
            link.leave()
            await desk.first(Unsubscribed)
            await publish(broker, "t/a", [b"too late"])
            assert await link.end_session() == ""
            assert desk.payloads == [b"waits"]
        async with running(link) as desk:
            connected = await desk.connected()
            assert (connected.session_present, connected.session_lost) == (False, False)
