"""For black-box tests of the contract: servers, the daemon as a process, and a look at all from outside.

Synchronous, because a fixture of pytest-trio lives for one test only and these daemons are shared by a whole module.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import psycopg
from paho.mqtt import publish
from psycopg.conninfo import make_conninfo
from redis import Redis

from actors.core.addresses import PostgresAddress
from tests.kit.commands import run_commands, run_here
from tests.kit.daemon import SUPERVISOR, write_settings
from tests.kit.metrics import samples
from tests.kit.postgres import new_database
from tests.kit.servers import Server, free_port, start_mosquitto, start_redis
from tests.kit.tokens import SECRET, token

WITHIN_S = 30.0
StartBroker = Callable[[Path], AbstractContextManager[Server]]
Payload = bytes | dict[str, Any] | list[Any]


def until(condition: Callable[[], object], what: str = "", within_s: float = WITHIN_S) -> None:
    """Poll from outside; there is no event to wait for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


@attrs.define(eq=False)
class Running:
    """The daemon as a process."""

    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def get(self, path: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        request.add_header("Authorization", f"Bearer {token()}")
        try:
            with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def live(self, race: str) -> dict[str, dict[str, Any]]:
        """participantId -> live position, as the API tells it."""
        status, body = self.get(f"/api/races/{race}/positions")
        assert status == 200, body
        return {position["participantId"]: position for position in json.loads(body)["positions"]}

    def metrics(self) -> dict[str, float]:
        """Sums over the labels, and each sample under its full name."""
        return samples(self.get("/metrics")[1].decode())

    def settled(self, messages: float) -> dict[str, float]:
        """The metrics once that many messages arrived and none of them is waiting for anything.

        However long it takes, as long as it goes on.
        """
        before: tuple[float, float] | None = None
        while True:
            seen = self.metrics()
            if (now := (seen["tracking_messages_received_total"], seen["tracking_acks_total"])) != before:
                before, deadline = now, time.monotonic() + WITHIN_S
            if (
                seen["tracking_messages_received_total"] >= messages
                and seen["tracking_fixes_in_flight"] == seen["tracking_messages_unacked"] == 0
            ):
                return seen
            assert time.monotonic() < deadline, (messages, seen, self.log[-3000:])
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)


@attrs.define(eq=False)
class Station:
    """Servers of a test's own, a database in the shared PostgreSQL, settings that point to them."""

    folder: Path
    broker: Server
    redis: Server
    postgres: PostgresAddress
    db: psycopg.Connection[tuple[Any, ...]]
    port: int = attrs.field(factory=free_port)
    keys: dict[str, dict[str, object]] = attrs.field(factory=dict)
    published: int = 0
    program: Sequence[str] = (SUPERVISOR,)

    @property
    def cache(self) -> Redis:
        return Redis(port=self.redis.port, decode_responses=True)

    @property
    def path(self) -> Path:
        return self.folder / "settings.ini"

    def settings(self) -> Path:
        sections: dict[str, dict[str, object]] = {
            "app": {"port": self.port},
            "ws": {"port": self.port, "auth_secret": SECRET},
            "mqtt": {"broker_url": f"mqtt://127.0.0.1:{self.broker.port}"},
            "redis": {"host": "127.0.0.1", "port": self.redis.port},
            "postgres": {
                "host": "127.0.0.1",
                "port": self.postgres.port,
                "username": self.postgres.user,
                "password": self.postgres.password.reveal(),
                "database": self.postgres.database,
            },
        }
        for section, keys in self.keys.items():
            sections.setdefault(section, {}).update(keys)
        return write_settings(self.folder, sections)

    @contextmanager
    def daemon(self, environment: Mapping[str, str] = {}, *, ready: bool = True) -> Iterator[Running]:
        """Started, and taking fixes unless not `ready`; whatever the test does, it is gone afterwards."""
        settings = self.settings()
        log = self.folder / "daemon.log"
        log.touch()
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *self.program, "--settings", str(settings)],
                stdout=output,
                stderr=output,
                env=os.environ | environment,
            )
        running = Running(int(environment.get("PORT", self.port)), process, log)
        self.published = 0
        try:
            if ready:
                self.ready(running)
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(WITHIN_S)
            process.kill()
            process.wait()

    def ready(self, running: Running) -> None:
        def is_ready() -> bool:
            assert running.process.poll() is None, running.log
            with suppress(OSError):
                return running.get("/readyz/ingest")[0] == 200
            return False

        until(is_ready, "ready")

    def send(self, *payloads: Payload, topic: str = "tracking/P1/position", **more: Any) -> None:
        """One message each at QoS 1, answered by the broker when this returns."""
        self.send_all([(topic, payload) for payload in payloads], **more)

    def send_all(
        self,
        messages: Sequence[tuple[str, Any]],
        *,
        qos: int = 1,
        retain: bool = False,
        login: tuple[str, str] | None = None,
    ) -> None:
        """(topic, payload) each; `login` is user and password."""
        auth: Any = {"username": login[0], "password": login[1]} if login else None
        ready: list[Any] = [
            {"topic": topic, "payload": as_payload(payload), "qos": qos, "retain": retain}
            for topic, payload in messages
        ]
        publish.multiple(ready, hostname="127.0.0.1", port=self.broker.port, auth=auth)
        self.published += len(ready)

    def rows(self, race: str | None = None) -> list[tuple[Any, ...]]:
        """(id, participant, race, latitude, longitude, timestamp in ms, status) by id."""
        where = "where race_id = %s" if race is not None else "where %s::text is null"
        sql = f"""select id::text, participant_id, race_id, latitude::text, longitude::text,
            (extract(epoch from client_timestamp) * 1000)::text, status::text
          from tracking_positions {where} order by id"""
        return self.db.execute(sql.encode(), (race,)).fetchall()

    def command(self, *args: str, check: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """One command to its end; `check` is the exit code it must have."""
        return self.commands([args], check=check, **environment)[0]

    def commands(
        self, commands: Sequence[Sequence[str]], *, check: int | None = 0, **environment: str
    ) -> list[subprocess.CompletedProcess[str]]:
        """Several, at the same time."""
        return run_commands([["--settings", str(self.path), *args] for args in commands], check=check, **environment)

    def here(
        self, *commands: Sequence[str], check: int | None = 0, **environment: str
    ) -> list[subprocess.CompletedProcess[str]]:
        """Several, without a process for each."""
        return run_here([["--settings", str(self.path), *args] for args in commands], check=check, **environment)


def as_payload(payload: Payload) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


@contextmanager
def station(
    folder: Path, server: PostgresAddress, *, broker: str | StartBroker = "", **keys: dict[str, object]
) -> Iterator[Station]:
    """`broker` are lines for mosquitto's file, or what starts another one in the folder that it is given.

    `keys` are more settings; the database is empty and dropped at the end.
    """
    start = partial(start_mosquitto, extra=broker, persistence=True) if isinstance(broker, str) else broker
    name = f"tracking_{secrets.token_hex(4)}"
    with psycopg.connect(conninfo(server), autocommit=True) as admin:
        admin.execute(new_database(name).encode())
    address = attrs.evolve(server, database=name)
    folders = [folder / part for part in ("broker", "redis")]
    for each in folders:
        each.mkdir()
    try:
        with (
            psycopg.connect(conninfo(address), autocommit=True) as db,
            start(folders[0]) as running_broker,
            start_redis(folders[1]) as valkey,
        ):
            made = Station(folder, running_broker, valkey, address, db, keys=keys)
            made.settings()
            yield made
    finally:
        with psycopg.connect(conninfo(server), autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)".encode())


def conninfo(address: PostgresAddress) -> str:
    return make_conninfo(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password.reveal(),
        dbname=address.database,
    )
