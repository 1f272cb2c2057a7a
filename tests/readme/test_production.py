"""The production files of README.md work as they stand there, for names, paths and ports of the test."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from actors.core.addresses import RedisAddress
from actors.history.postgres.libpq import connect
from actors.settings.load import Secret
from tests.kit.certificate import CERTIFICATE
from tests.kit.daemon import DaemonProcess, daemon, run_command
from tests.kit.readme import block, payload, replaced
from tests.kit.servers import free_port
from tests.kit.stores import Database
from tests.mqtt.mqtt_desk import Mosquitto


@attrs.define(eq=False)
class Production:
    """README.md's production files in a folder, for names, paths and ports of the test."""

    folder: Path
    broker: Mosquitto
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
            block("ini", "[mqtt]"),
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

    async def track(self, topic: str, fix: bytes) -> None:
        await trio.run_process(self._tracker("mosquitto_pub", "-t", topic, "-m", fix.decode()), capture_stderr=True)

    def _tracker(self, program: str, *args: str) -> list[str]:
        """As the tracker P001, over TLS."""
        login = ["-u", "P001", "-P", "the tracker's", "--cafile", str(self.folder / "certs/server.crt")]
        return [program, "-h", "127.0.0.1", "-p", str(self.tls_port), *login, "-V", "5", "-q", "1", *args]

    @asynccontextmanager
    async def receipt(self) -> AsyncIterator[dict[str, Any]]:
        """The next one of P001, filled in at the end of the block."""
        command = self._tracker("mosquitto_sub", "-t", "tracking/P001/receipt", "-C", "1", "-W", "60")
        granted = self.broker.log().count("Sending SUBACK")
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        told: dict[str, Any] = {}
        try:
            with trio.fail_after(30):
                while self.broker.log().count("Sending SUBACK") == granted:
                    await trio.sleep(0.02)
            yield told
            told.update(json.loads(b"".join([part async for part in process.stdout])))
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()


@asynccontextmanager
async def role_and_database(admin: Database) -> AsyncIterator[None]:
    """What README.md's SQL makes, for as long as the test runs."""
    drop = ("drop database if exists tracking with (force)", "drop role if exists tracking")
    connection = await connect(attrs.evolve(admin.address, database="postgres"), "test", 10)
    try:
        for statement in (*drop, *block("sql", "CREATE ROLE").strip().split("\n")):
            await connection.script(statement)
        yield
    finally:
        with trio.CancelScope(shield=True):
            for statement in drop:
                await connection.script(statement)
            connection.close()


async def test_the_production_files(
    tmp_path: Path, database: Database, redis_process: tuple[RedisAddress, int]
) -> None:
    http_port, now_s = free_port(), int(time.time())
    site = Production(tmp_path, Mosquitto(tmp_path, free_port()), free_port())
    site.write_broker()
    settings = site.write_settings(database.address.port, redis_process[0], http_port)
    async with role_and_database(database):
        try:
            await site.broker.start()
            checked = await run_command(settings, "check", check=False)
            assert checked.returncode == 0, checked.stdout.decode()
            async with daemon(settings, http_port) as running:
                async with site.receipt() as receipt:
                    await site.track("tracking/P001/position", payload("P001", now_s, "R1"))
                assert (receipt["participant_id"], len(receipt["timestamps"])) == ("P001", 1)
                await site.track("tracking/P002/position", payload("P002", now_s, "R1"))  # the broker refuses it
                await site.track("tracking/P001/position", payload("P003", now_s, "R1"))  # we do
                await site.track("tracking/P001/position", payload("P001", now_s + 1, "R1"))
                await running.until_metric("acks_total", 3)
                assert await running.metric("fixes_committed_total") == 2
                assert [row["code"] for row in await _rejections(running)] == ["topic_mismatch"]
                assert await running.stop() == 0
            login = attrs.evolve(database.address, user="tracking", password=Secret("change me"), database="tracking")
            connection = await connect(login, "test", 10)
            rows = await Database(login, connection).rows("select participant_id::text from tracking_positions")
            connection.close()
            assert rows == [["P001"], ["P001"]]
        finally:
            with trio.CancelScope(shield=True):
                await site.broker.stop()


async def _rejections(running: DaemonProcess) -> list[dict[str, Any]]:
    listed = await running.command("rejections", "--json")
    return [json.loads(line) for line in listed.stdout.splitlines()]


def test_the_broker_of_production_loses_nothing() -> None:
    lines = block("conf", "max_queued_messages").splitlines()
    assert {"max_queued_messages 1000000", "max_inflight_messages 10000", "autosave_interval 1"} <= set(lines)
