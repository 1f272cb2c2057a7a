"""For black-box tests of the contract: servers, the daemon as a process, and a look at all from outside.

Synchronous, because a fixture of pytest-trio lives for one test only and these daemons are shared by a whole module.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
from paho.mqtt import publish
from psycopg.conninfo import make_conninfo
from redis import Redis

from actors.core.addresses import PostgresAddress, RedisAddress, Secret
from tests.kit.commands import run_commands, run_here
from tests.kit.daemon import SUPERVISOR, Running, external, started, write_settings
from tests.kit.postgres import new_database
from tests.kit.servers import Server, free_port, start_mosquitto, start_redis

StartBroker = Callable[[Path], AbstractContextManager[Server]]
Payload = bytes | dict[str, Any] | list[Any]


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

    def sections(self) -> dict[str, dict[str, object]]:
        redis = RedisAddress(password=Secret(""), port=self.redis.port)
        sections = external(self.broker.port, redis, self.postgres, self.port)
        for section, keys in self.keys.items():
            sections.setdefault(section, {}).update(keys)
        return sections

    def settings(self) -> Path:
        return write_settings(self.folder, self.sections())

    @contextmanager
    def daemon(self, environment: Mapping[str, str] = {}, *, ready: bool = True) -> Iterator[Running]:
        """Started, and taking fixes unless not `ready`; whatever the test does, it is gone afterwards."""
        self.published = 0
        port = int(environment.get("PORT", self.port))
        with started(self.settings(), port, environment, program=self.program) as running:
            if ready:
                running.until_ready()
            yield running

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
            _broker(folders[0], broker) as running_broker,
            start_redis(folders[1]) as valkey,
        ):
            made = Station(folder, running_broker, valkey, address, db, keys=keys)
            made.settings()
            yield made
    finally:
        with psycopg.connect(conninfo(server), autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)".encode())


def _broker(folder: Path, broker: str | StartBroker) -> AbstractContextManager[Server]:
    return start_mosquitto(folder, broker, persistence=True) if isinstance(broker, str) else broker(folder)


def conninfo(address: PostgresAddress) -> str:
    return make_conninfo(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password.reveal(),
        dbname=address.database,
    )
