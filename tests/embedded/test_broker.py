"""The embedded mosquitto: who may log in."""

from __future__ import annotations

import os
from collections.abc import Iterator

import attrs
import pytest

from actors.core.addresses import Secret
from actors.embedded import broker
from actors.settings.load import MqttSettings
from tests.embedded import embedded_place as at
from tests.embedded.embedded_place import Place, embedded, make_place, reachable_folder
from tests.embedded.test_servers import refusal
from tests.kit.servers import free_port

pytestmark = pytest.mark.live


@pytest.fixture
def place() -> Iterator[Place]:
    with reachable_folder() as folder, make_place(folder / "var") as made:
        yield made.only("broker")


@pytest.mark.parametrize(
    ("username", "password"),
    [("tracker", "hunter2"), ("tr acker", " pa:ss:wörd ' \" "), ("Läufer", "p" * 200)],
)
async def test_it_asks_for_the_password(username: str, password: str, place: Place) -> None:
    await at.check_login(place, username, password)
    assert password not in (place.data_dir / "broker" / "passwords").read_text()


async def test_a_new_password_counts_after_a_restart(place: Place) -> None:
    for password in ("old", "new"):
        async with embedded(place.broker_login("u", password)) as where:
            assert await at.publish(where.broker, "t", "x", "-u", "u", "-P", password) == 0
    async with embedded(place) as where:
        assert await at.publish(where.broker, "t", "x") == 0


@pytest.mark.parametrize("username", ["a:b", "#1"])
async def test_a_username_that_mosquitto_cannot_hold(username: str, place: Place) -> None:
    told = await refusal(place.broker_login(username, "p"))
    assert told == "mosquitto knows no user names with a colon or a leading #: set another [mqtt] username"


async def test_an_ipv6_address(place: Place) -> None:
    mqtt = attrs.evolve(place.settings.mqtt, embedded_bind=f"[::1]:{free_port()}")
    async with embedded(Place(place.data_dir, attrs.evolve(place.settings, mqtt=mqtt))) as where:
        assert where.broker.host == "::1"
        assert await at.publish(where.broker, "t", "x") == 0


@pytest.mark.parametrize(("bind", "host"), [("0.0.0.0:1", "127.0.0.1"), ("[::]:1", "::1"), ("10.0.0.1:1", "10.0.0.1")])
def test_a_broker_for_everybody_is_dialled_on_this_machine(bind: str, host: str) -> None:
    settings = attrs.evolve(MqttSettings(), embedded_bind=bind, username="u", password=Secret("p"))
    where = broker.address(settings)
    assert (where.host, where.port, where.username, where.password) == (host, 1, "u", Secret("p"))


async def test_its_settings_are_those_that_lose_nothing(place: Place) -> None:
    async with embedded(place):
        lines = (place.data_dir / "broker" / "mosquitto.conf").read_text().splitlines()
    assert {"persistence true", "autosave_interval 1", "max_queued_messages 1000000"} <= set(lines)
    assert "max_inflight_messages 10000" in lines
    assert ("user root" in lines) == (os.geteuid() == 0)
