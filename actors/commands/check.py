"""`check`: reaches what the settings name, and tells the weak spots of the set-up; one line each."""

from __future__ import annotations

import argparse
import json
import os
import resource
from collections.abc import Callable, Iterator
from typing import Any

from actors.commands import check_nodes, check_postgres, check_redis, check_servers, check_sharing, check_standby
from actors.commands.check_servers import Finding
from actors.commands.status import ask
from actors.core.addresses import Address, is_loopback
from actors.core.broker_url import broker_addresses
from actors.core.errors import NotStarted
from actors.data_dir import socket_path
from actors.embedded import broker, nats, postgres, valkey
from actors.embedded.addresses import postgres_address, redis_address
from actors.http.access import SECRET_FILE, Access, load_access
from actors.mqtt.subscriptions import RememberedTopics, has_shared
from actors.settings.load import Settings
from actors.settings.rules import weak_spots
from actors.settings.values import bind_address

OTHER_DESCRIPTORS = 200  # beside the dashboards: servers, spool, logs, libraries


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "check",
        help="validate the settings, reach the servers, warn of weak spots",
        description="Validates the settings, reaches broker, Redis and PostgreSQL, warns of weak spots. "
        "Exits with 1 when something failed.",
    )
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace, settings: Settings) -> int:
    """A line for each finding, as it comes: 0, or 1 when one of them is FAILED."""
    failed = False
    for finding in findings(settings):
        print(f"{finding.level:<8}{finding.subject}: {finding.text}", flush=True)
        failed = failed or finding.level == "FAILED"
    return 1 if failed else 0


def findings(settings: Settings) -> Iterator[Finding]:
    """Everything there is to say."""
    yield Finding("ok", "settings", "valid")  # the command line has read them
    running = _running_daemon(settings)
    if settings.cluster.ingest == "none":
        yield Finding("ok", "broker", "not needed: [cluster] ingest = none")
    else:
        yield from _broker(settings, running)
    if settings.redis.host == "embedded":
        yield from _embedded("redis", valkey.find_binary, running)
    else:
        yield from check_redis.cache(redis_address(settings))
    if settings.cluster.relay and (settings.redis.host != "embedded" or running is not None):
        yield from check_nodes.nodes(redis_address(settings), _access(settings))
    if settings.postgres.host == "embedded":
        yield from _embedded("postgres", postgres.find_binaries, running)
    else:
        yield from check_postgres.database(postgres_address(settings))
    if settings.cluster.ingest == "standby":
        yield from check_standby.lock(settings)
    for weak_spot in weak_spots(settings):
        yield Finding("warning", "settings", weak_spot)
    yield from _exposure(settings)
    yield from _descriptors(settings)


def _running_daemon(settings: Settings) -> dict[str, Any] | None:
    """The components of the daemon that owns data_dir; None when none answers."""
    try:
        status = json.loads(ask(os.fspath(socket_path(settings.app.data_dir, "control.sock"))))
    except (OSError, ValueError):
        return None
    components: dict[str, Any] = status["components"]
    return components


def _access(settings: Settings) -> Access | None:
    """None when the secret that signs tokens is still to be made."""
    has_one = settings.ws.auth_secret or (settings.app.data_dir / SECRET_FILE).exists()
    return load_access(settings) if has_one else None


def _broker(settings: Settings, running: dict[str, Any] | None) -> Iterator[Finding]:
    mqtt = settings.mqtt
    if mqtt.broker_url == "embedded":
        nodes: tuple[Address, ...] = (bind_address(mqtt.embedded_bind),)
        for finding in _embedded("broker", lambda: _embedded_broker(settings), running):
            yield finding
            if finding.level == "ok" and broker.kind() == "nats":
                yield Finding("warning", "broker", nats.LIMITS)
    else:
        nodes = broker_addresses(mqtt.broker_url)
        yield from check_servers.broker(mqtt, nodes)
        if settings.cluster.ingest == "shared":
            group = settings.cluster.shared_group
            known = RememberedTopics(settings.app.data_dir, mqtt.client_id)
            yield from check_sharing.sharing(mqtt, nodes, group, proven=has_shared(known, group, mqtt.topics))
    outside = [node for node in nodes if not is_loopback(node.host)]
    if outside:
        if mqtt.topic_identity == "none":
            text = "reachable from outside without topic_identity: any tracker can send fixes in the name of another"
            yield Finding("warning", "broker", text)
        if mqtt.password and not all(node.tls for node in outside):
            yield Finding("warning", "broker", "the password crosses the network in the clear; use mqtts://")
    if mqtt.qos == 0:
        yield Finding("warning", "broker", "[mqtt] qos is 0: what arrives while we are away is lost")


def _embedded_broker(settings: Settings) -> str:
    """Raises NotStarted."""
    kind = broker.kind()
    broker.check_port(settings.mqtt)
    return kind


def _embedded(subject: str, find: Callable[[], object], running: dict[str, Any] | None) -> Iterator[Finding]:
    """A server that the daemon starts: as the daemon sees it, or whether it could be started."""
    if running is not None:
        component = running[subject]
        yield Finding("ok" if component["up"] else "FAILED", subject, f"embedded: {component['detail']}")
        return
    try:
        found = find()
    except NotStarted as missing:
        yield Finding("FAILED", subject, f"embedded: {missing}")
    else:
        yield Finding("ok", subject, f"embedded: the daemon is not running; it would start {found}")


def _exposure(settings: Settings) -> Iterator[Finding]:
    ws = settings.ws
    if ws.auth == "off":
        yield Finding("warning", "websocket", "auth is off: every program and user of this machine sees every race")
    exposed = ", ".join(host for host in ws.host if not is_loopback(host))
    if exposed and not settings.tls.cert_file:
        text = f"listens on {exposed} without [tls]: tokens cross the network in the clear unless a proxy encrypts"
        yield Finding("warning", "websocket", text)


def _descriptors(settings: Settings) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.ws.max_connections + settings.ws.max_handshakes + OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        yield Finding("ok", "descriptors", f"{'unlimited' if soft == resource.RLIM_INFINITY else soft} open files")
        return
    more = "" if hard == resource.RLIM_INFINITY or hard >= needed else f" (the hard limit is {hard})"
    text = f"{soft} open files, [ws] max_connections needs {needed}: raise it with `ulimit -n {needed}`{more}"
    yield Finding("warning", "descriptors", text)
