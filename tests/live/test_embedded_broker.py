"""The embedded broker: who may log in, and what happens where mosquitto is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from actors.commands.run import make_daemon
from actors.core.settings_values import Secret
from actors.data_dir import DataDir
from actors.drivers import embedded_broker
from actors.drivers.mqtt import MqttLink
from actors.embedded import addresses
from actors.errors import NotStarted
from actors.messages import Disconnected
from actors.settings import MqttSettings, Settings
from tests.live import embedded_place as at
from tests.live.embedded_place import Place, embedded, make_place, reachable_folder
from tests.live.mqtt_desk import running
from tests.live.test_embedded import refusal
from tests.servers import free_port


@pytest.fixture
def place() -> Iterator[Place]:
    with reachable_folder() as folder, make_place(folder / "var") as made:
        yield made.only("broker")


@pytest.fixture
def without_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_broker, "find_mosquitto", lambda: None)


@pytest.mark.parametrize(
    ("username", "password"),
    [("tracker", "hunter2"), ("tr acker", " pa:ss:wörd ' \" "), ("Läufer", "p" * 200)],
)
async def test_it_asks_for_the_password(username: str, password: str, place: Place) -> None:
    async with embedded(place.broker_login(username, password)) as where:
        assert (where.broker.username, where.broker.password) == (username, Secret(password))
        assert await at.publish(where.broker, "t", "x", "-u", username, "-P", password) == 0
        assert await at.publish(where.broker, "t", "x", "-u", username, "-P", password + "x") != 0
        assert await at.publish(where.broker, "t", "x", "-u", username) != 0
        assert await at.publish(where.broker, "t", "x") != 0
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
    where = embedded_broker.address(settings)
    assert (where.host, where.port, where.username, where.password) == (host, 1, "u", Secret("p"))


async def test_its_settings_are_those_that_lose_nothing(place: Place) -> None:
    async with embedded(place):
        lines = (place.data_dir / "broker" / "mosquitto.conf").read_text().splitlines()
    assert {"persistence true", "autosave_interval 1", "max_queued_messages 1000000"} <= set(lines)
    assert "max_inflight_messages 10000" in lines
    assert ("user root" in lines) == (os.geteuid() == 0)


# --- without mosquitto -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_mosquitto")
async def test_amqtt_instead_with_a_warning(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    async with embedded(place) as where:
        assert where.broker_kind == "amqtt"
        assert place.servers() == ["amqtt"]
        assert await at.publish(where.broker, "kept", "P001", "-r", "-V", "mqttv311") == 0
        assert await at.receive(where.broker, "kept", "-V", "mqttv311") == b"P001\n"
    told = capsys.readouterr().out
    assert "warning" in told
    assert "the embedded broker is amqtt: MQTT 3.1.1 only, and it forgets messages; install mosquitto" in told


@pytest.mark.usefixtures("without_mosquitto")
async def test_amqtt_is_not_asked_for_mqtt_5_which_it_does_not_answer(place: Place, tmp_path: Path) -> None:
    async with embedded(place) as where:
        link = make_daemon(place.settings, DataDir(tmp_path), None).open_outside(where).link
        assert isinstance(link, MqttLink)
        async with running(link) as desk:
            await desk.connected()
            assert not desk.all(Disconnected), "no attempt that it left unanswered came before"


@pytest.mark.usefixtures("without_mosquitto")
async def test_amqtt_cannot_ask_for_a_password(place: Place) -> None:
    told = await refusal(place.broker_login("u", "p"))
    assert told == "amqtt is embedded without a password check: install mosquitto to use [mqtt] username"


@pytest.mark.usefixtures("without_mosquitto")
def test_where_amqtt_listens(tmp_path: Path) -> None:
    settings = attrs.evolve(MqttSettings(), embedded_bind="[::1]:1883")
    plan = embedded_broker.prepare(tmp_path, settings)
    config = json.loads(Path(plan.argv[-1]).read_text())
    assert config["listeners"]["default"] == {"type": "tcp", "bind": "[::1]:1883"}


@pytest.mark.usefixtures("without_mosquitto")
def test_neither_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NotStarted, match=r"apt-get install mosquitto\), or, without any guarantee, pip install amqtt"):
        addresses(Settings.default())
