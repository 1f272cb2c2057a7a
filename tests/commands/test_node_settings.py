"""What the nodes of one machine are told, and where they listen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from actors.commands.node_settings import LAST_PORT, first_node, folder_of, free_ports, other_node
from actors.core.addresses import PostgresAddress, RedisAddress
from actors.core.errors import NotStarted
from actors.http.access import load_access
from actors.settings.load import ClusterSettings, MqttSettings, Secret, Settings
from actors.settings.rules import faults

REDIS = RedisAddress(socket_path="/var/v.sock", password=Secret("r"))
POSTGRES = PostgresAddress("/var/sockets", 5432, "postgres", Secret("p"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    default = Settings()
    mqtt = MqttSettings(broker_url="mqtts://b", username="u", password=Secret("x"))
    return attrs.evolve(default, app=attrs.evolve(default.app, data_dir=tmp_path), mqtt=mqtt)


def test_the_first_node_reads_and_has_the_servers(settings: Settings) -> None:
    shared = ClusterSettings(ingest="shared", shared_group="x", relay=True)
    first = first_node(attrs.evolve(settings, cluster=shared))
    assert (first.app.node_id, first.app.data_dir, first.app.port) == ("node-1", settings.app.data_dir, 3000)
    assert (first.mqtt, first.redis, first.postgres) == (settings.mqtt, settings.redis, settings.postgres)
    assert first.cluster == ClusterSettings(relay=True)
    assert list(faults(first)) == []


def test_another_node_shows_what_is_in_the_same_stores(settings: Settings) -> None:
    first = first_node(settings)
    other = other_node(first, 2, 3007, REDIS, POSTGRES)
    assert (other.app.node_id, other.app.port, other.ws.port) == ("node-2", 3007, 3007)
    assert other.app.data_dir == folder_of(first, "node-2")
    assert (other.redis.host, other.redis.password) == ("/var/v.sock", Secret("r"))
    assert (other.postgres.host, other.postgres.password) == ("/var/sockets", Secret("p"))
    assert other.cluster == ClusterSettings(ingest="none", relay=True)
    assert not other.mqtt.password, "it has nothing to do with the broker"
    assert list(faults(other)) == []


def test_their_tokens_are_valid_on_all_of_them(settings: Settings) -> None:
    first = first_node(settings)
    other = other_node(first, 2, 3007, REDIS, POSTGRES)
    signed = load_access(settings).sign(None, 60, 0)
    assert load_access(other).verify(signed, 0) == load_access(first).verify(signed, 0)
    named = attrs.evolve(settings, ws=attrs.evolve(settings.ws, auth_secret=Secret("s" * 32)))
    assert first_node(named).ws.auth_secret == Secret("s" * 32)


def test_stores_of_somebody_else_are_everybodys(settings: Settings) -> None:
    redis = attrs.evolve(settings.redis, host="r", username="u", password=Secret("x"))
    postgres = attrs.evolve(settings.postgres, host="p", port=7)
    first = first_node(attrs.evolve(settings, redis=redis, postgres=postgres))
    other = other_node(first, 2, 3007, REDIS, POSTGRES)
    assert (other.redis, other.postgres) == (redis, postgres)


@contextmanager
def taken(host: str) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        yield server.getsockname()[1]


def test_ports_are_the_next_ones_that_nobody_listens_on() -> None:
    with taken("127.0.0.1") as port:
        found = free_ports(["127.0.0.1", "localhost"], port - 1, 3)
    assert len(set(found)) == 3
    assert port < found[0] < found[1] < found[2]
    with taken("::1") as port:
        assert port not in free_ports(["127.0.0.1", "::1"], port - 1, 1)


def test_no_port_is_left() -> None:
    with pytest.raises(NotStarted, match=f"no 2 free ports above {LAST_PORT - 1}: set another"):
        free_ports(["127.0.0.1"], LAST_PORT - 1, 2)
