"""The settings of nodes that share this machine and one set of servers, and the ports that they listen on."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import attrs

from actors.core.addresses import PostgresAddress, RedisAddress
from actors.core.errors import NotStarted
from actors.http.access import load_secret
from actors.settings.load import ClusterSettings, MqttSettings, Secret, Settings

LAST_PORT = 65_535


def first_node(settings: Settings) -> Settings:
    """It reads the broker, alone, and has the embedded servers. Raises NotStarted.

    Its secret is named, so that the tokens of all nodes are signed alike.
    """
    secret = Secret(load_secret(settings).decode("utf-8", "surrogateescape"))
    return attrs.evolve(
        settings,
        app=attrs.evolve(settings.app, node_id="node-1", data_dir=settings.app.data_dir.absolute()),
        ws=attrs.evolve(settings.ws, auth_secret=secret),
        cluster=ClusterSettings(relay=True),
    )


def other_node(first: Settings, number: int, port: int, redis: RedisAddress, postgres: PostgresAddress) -> Settings:
    """It reads no broker. `redis` and `postgres`: where these are, if the first node embeds them."""
    name = f"node-{number}"
    cache, history = first.redis, first.postgres
    if cache.host == "embedded":
        cache = attrs.evolve(cache, host=redis.socket_path, username="", password=redis.password)
    if history.host == "embedded":
        at = postgres
        history = attrs.evolve(history, host=at.host, port=at.port, username=at.user, password=at.password)
    return attrs.evolve(
        first,
        app=attrs.evolve(first.app, node_id=name, port=port, data_dir=folder_of(first, name)),
        ws=attrs.evolve(first.ws, port=port),
        mqtt=MqttSettings(),
        redis=cache,
        postgres=history,
        cluster=ClusterSettings(ingest="none", relay=True),
    )


def folder_of(first: Settings, name: str) -> Path:
    """What there is of a node: its settings, secrets and log; of all but the first one its data_dir, too."""
    return first.app.data_dir / "nodes" / name


def free_ports(hosts: Sequence[str], after: int, count: int) -> list[int]:
    """The next ports that nobody listens on at any of these hosts. Raises NotStarted."""
    found: list[int] = []
    for port in range(after + 1, LAST_PORT + 1):
        if len(found) == count:
            break
        if all(_is_free(host, port) for host in hosts):
            found.append(port)
    if len(found) < count:
        raise NotStarted(f"there are no {count} free ports above {after}: set another [app] port")
    return found


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return False
    return True
