"""A node that shares asks the broker first whether it delivers what it grants, until it has an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from actors.mqtt import probe, probing, thread
from actors.mqtt.events import CannotShare, Connected, Disconnected, Subscribed, SubscriptionRefused
from actors.mqtt.link import BrokerAddress, MqttLink
from tests.kit.scripted_broker import CONNECT, PUBLISH, SUBSCRIBE, BrokerSide, ScriptedBroker, scripted_broker
from tests.kit.servers import free_port
from tests.mqtt.mqtt_desk import SETTINGS, Desk, running

BOTH = pytest.mark.parametrize("protocol", [5, 4])
WANTED = [("$share/g/t/#", 1)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLAIN_S", "SHARED_S", "AGAIN_S"):
        monkeypatch.setattr(probe, name, 0.3)
    monkeypatch.setattr(probing, "RETRY_S", (0.05, 0.05))


def link_to(port: int, folder: Path, protocol: int = 5) -> MqttLink:
    settings = evolve(SETTINGS, client_id="me", protocol={5: "5", 4: "3.1.1"}[protocol])
    return MqttLink(settings, BrokerAddress("127.0.0.1", port), folder, shared_group="g")


def shares(wanted: str, topic: str) -> bool:
    return wanted.removeprefix("$share/g/") == topic


def grants_only(wanted: str, topic: str) -> bool:
    return wanted == topic


async def probe_of(broker: ScriptedBroker) -> BrokerSide:
    """The connection of a probe."""
    side = await broker.connected()
    connect = side.received[0]
    assert connect.kind == CONNECT
    assert connect.body.endswith(b"\0\x08me-probe")
    assert connect.body[7] == 2  # a clean session, no log in
    return side


async def refused(desk: Desk) -> str:
    reason = (await desk.first(CannotShare)).reason
    assert not desk.all(Connected)
    return reason


@BOTH
async def test_a_broker_that_shares(tmp_path: Path, protocol: int) -> None:
    async with scripted_broker(protocol=protocol) as broker:
        broker.routes = shares
        link = link_to(broker.port, tmp_path, protocol)
        async with running(link) as desk:
            asking = await probe_of(broker)
            await asking.closed.wait()
            assert asking.said_goodbye
            (plain, _), (shared, _) = asking.filters
            assert plain.startswith("g-probe/")
            assert shared.startswith("$share/g/g-probe/")
            side = await broker.connected()
            await side.subscribed.wait()
            assert side.filters == WANTED
            await desk.connected()
            await side.stream.aclose()
            again = await broker.connected()  # it is not asked a second time
            await again.subscribed.wait()
            assert again.filters == WANTED
            await link.disconnect()
        async with running(link):  # nor by a reader that runs again
            later = await broker.connected()
            await later.subscribed.wait()
            assert later.filters == WANTED


async def test_it_is_back_sooner_than_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then the broker may have nobody to deal to."""
    monkeypatch.setattr(thread, "RETRY_S", (600.0, 600.0))
    async with scripted_broker() as broker:
        broker.routes = shares
        async with running(link_to(broker.port, tmp_path)) as desk:
            await probe_of(broker)
            for times in (1, 2):
                side = await broker.connected()
                await desk.first(Subscribed, times)
                await side.stream.aclose()


@BOTH
async def test_granted_and_not_delivered(tmp_path: Path, protocol: int) -> None:
    async with scripted_broker(protocol=protocol) as broker:
        broker.routes = grants_only
        link = link_to(broker.port, tmp_path, protocol)
        async with running(link) as desk:
            assert "grants a shared subscription and delivers nothing to it" in await refused(desk)
            await link.disconnect()
        assert len(broker.published) >= 4  # not only once
        assert not broker._waiting[1:]  # the probe alone came


async def test_the_broker_says_that_it_cannot(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        broker.accept(properties=b"\x2a\0")
        async with running(link_to(broker.port, tmp_path)) as desk:
            assert "says that it has no shared subscriptions" in await refused(desk)
            assert not (await probe_of(broker)).filters


@pytest.mark.parametrize("known", ["", '{"me":["$share/g/t/#"]}', '{"me":["t/#"]}'])
async def test_nothing_comes_at_all(tmp_path: Path, known: str) -> None:
    """An ACL of mosquitto grants every subscription. A node that has shared before is not stopped."""
    if known:
        (tmp_path / "mqtt_topics.json").write_text(known)
    async with scripted_broker() as broker:
        broker.puback = 0x87
        async with running(link_to(broker.port, tmp_path)) as desk:
            if "share" in known:
                await desk.connected()
            else:
                reason = await refused(desk)
                assert "delivers no probe and says 'Not authorized' to what is published" in reason
                assert "let this user read and write g-probe/#" in reason


async def test_a_subscription_that_is_refused(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        broker.suback = b"\x01\x87"
        async with running(link_to(broker.port, tmp_path)) as desk:
            assert "refuses a subscription to $share/g/g-probe/" in await refused(desk)
            assert not desk.all(SubscriptionRefused)


@pytest.mark.parametrize(("kind", "what"), [(SUBSCRIBE, "SUBSCRIBE to g-probe/"), (PUBLISH, "PUBLISH to g-probe/")])
async def test_a_broker_that_ends_the_connection_is_asked_again_and_then_believed(
    tmp_path: Path, kind: int, what: str
) -> None:
    async with scripted_broker() as broker:
        broker.forbids = lambda one: one.kind == kind
        async with running(link_to(broker.port, tmp_path)) as desk:
            reason = await refused(desk)
            assert f"closed the connection at our {what}" in reason
            assert len(broker.refused) >= probing.CUT_TIMES
            assert desk.all(Disconnected)


async def test_it_waits_for_a_broker_that_is_away(tmp_path: Path) -> None:
    link = link_to(free_port(), tmp_path)
    async with running(link) as desk:
        assert "Connection refused" in (await desk.disconnected()).reason
        await link.disconnect()
    assert not desk.all(CannotShare)


async def test_it_can_be_stopped_while_it_waits_for_the_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PLAIN_S", 600.0)
    async with scripted_broker() as broker:
        link = link_to(broker.port, tmp_path)
        async with running(link):
            side = await probe_of(broker)
            await side.until(lambda: bool(side.published))
            await link.disconnect()
            await side.closed.wait()


async def test_no_answer_to_subscribe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SUBACK_S", 0.3)
    async with scripted_broker() as broker:
        broker.suback = None
        async with running(link_to(broker.port, tmp_path)) as desk:
            assert "does not answer a subscription" in await refused(desk)


@pytest.mark.parametrize("lacks_5", ["says so", "closes"])
async def test_a_broker_without_mqtt_5(tmp_path: Path, lacks_5: str) -> None:
    """What the probe finds out holds for the link."""
    async with scripted_broker(protocol=4) as broker:
        broker.lacks_5, broker.routes = lacks_5, shares
        settings = evolve(SETTINGS, client_id="me", protocol="auto")
        link = MqttLink(settings, BrokerAddress("127.0.0.1", broker.port), tmp_path, shared_group="g")
        async with running(link) as desk:
            await desk.connected()
            versions = []
            while broker.attempts_waiting:
                versions.append((await broker.connected()).received[0].body[6])
            assert versions[0] == 5
            assert versions[-2:] == [4, 4]  # the probe, the link
