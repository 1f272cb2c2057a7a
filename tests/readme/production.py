"""The production files of README.md, for names, paths and ports of a test: broker, settings, database."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg

from actors.core.addresses import PostgresAddress, RedisAddress
from actors.settings.load import Secret
from tests.kit.certificate import CERTIFICATE
from tests.kit.daemon import until
from tests.kit.readme import block, replaced
from tests.kit.servers import Server
from tests.kit.station import conninfo


@attrs.define(eq=False)
class Production:
    """Its files in a folder."""

    folder: Path
    broker: Server
    tls_port: int

    def write_broker(self) -> None:
        etc = ("/etc/mosquitto", str(self.folder))
        main = [f"persistence true\npersistence_location {self.folder}/\ninclude_dir {self.folder}/conf.d"]
        if os.geteuid() == 0:
            main.append("user root")  # as user mosquitto it could not enter this folder
        (self.folder / "mosquitto.conf").write_text("\n".join([*main, ""]))
        ports = ((" 1883 ", f" {self.broker.port} "), (" 8883\n", f" {self.tls_port} 127.0.0.1\n"))
        self.write("conf.d/race-tracking.conf", replaced(block("conf", "max_queued_messages"), etc, *ports))
        self.write("race-tracking.acl", block("conf", "pattern write"))
        for name in ("certs/server.crt", "certs/server.key"):
            self.write(name, CERTIFICATE)
        self.write("race-tracking.passwords", "tracking-backend:the daemon's\nP001:the tracker's\n")
        subprocess.run(["mosquitto_passwd", "-U", str(self.folder / "race-tracking.passwords")], check=True)

    def write_settings(self, postgres_port: int, redis: RedisAddress, http_port: int) -> Path:
        self.write("mqtt_password", "the daemon's\n")
        self.write("postgres_password", "change me\n")
        self.write("redis_password", redis.password.reveal())
        text = replaced(
            block("ini", "mqtt://127.0.0.1:1883"),
            ("/etc/race-tracking", str(self.folder)),
            ("/var/lib/race-tracking", str(self.folder / "var")),
            ("mqtt://127.0.0.1:1883", f"mqtt://127.0.0.1:{self.broker.port}"),
            ("[mqtt]\n", "[mqtt]\nreceipt_topic = tracking/{participant_id}/receipt\n"),
            ("[redis]\n", f"[redis]\nport = {redis.port}\n"),
            ("[postgres]\n", f"[postgres]\nport = {postgres_port}\n"),
            ("[app]\n", f"[app]\nport = {http_port}\n"),
            ("[ws]\n", f"[ws]\nport = {http_port}\n"),
        )
        self.write("settings.ini", text)
        return self.folder / "settings.ini"

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)

    def track(self, topic: str, fix: bytes) -> None:
        subprocess.run(self._tracker("mosquitto_pub", "-t", topic, "-m", fix.decode()), check=True, capture_output=True)

    def _tracker(self, program: str, *args: str) -> list[str]:
        """As the tracker P001, over TLS."""
        login = ["-u", "P001", "-P", "the tracker's", "--cafile", str(self.folder / "certs/server.crt")]
        return [program, "-h", "127.0.0.1", "-p", str(self.tls_port), *login, "-V", "5", "-q", "1", *args]

    @contextmanager
    def receipt(self) -> Iterator[dict[str, Any]]:
        """The next one of P001, filled in at the end of the block."""
        command = self._tracker("mosquitto_sub", "-t", "tracking/P001/receipt", "-C", "1", "-W", "60")
        granted = self.broker.log.count("Sending SUBACK")
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            until(lambda: self.broker.log.count("Sending SUBACK") > granted, "subscribed")
            told: dict[str, Any] = {}
            yield told
            told.update(json.loads(process.communicate()[0]))


@contextmanager
def role_and_database(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """What README.md's SQL makes, for as long as the test runs; its owner's login."""
    drop = ("drop database if exists tracking with (force)", "drop role if exists tracking")
    with psycopg.connect(conninfo(server), autocommit=True) as admin:
        try:
            for statement in (*drop, *block("sql", "CREATE DATABASE").strip().split("\n")):
                admin.execute(statement.encode())
            yield attrs.evolve(server, user="tracking", password=Secret("change me"), database="tracking")
        finally:
            for statement in drop:
                admin.execute(statement.encode())
