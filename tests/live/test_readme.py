"""What README.md shows works as it stands there: its examples and its production files are run, its tables compared."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import attrs
import pytest
import trio

import actors
from actors.commands.parser import build
from actors.drivers.addresses import RedisAddress
from actors.drivers.libpq import connect
from actors.errors import RejectionCode
from actors.http_documents import openapi
from actors.settings import Secret
from actors.settings_table import KEYS
from tests.live.certificate import CERTIFICATE
from tests.live.daemon import ROOT, DaemonProcess, daemon, external, run_command, write_settings
from tests.live.mqtt_desk import Mosquitto, free_port, mosquitto
from tests.live.stores import Database

README = (ROOT / "README.md").read_text("utf-8")
URL, TOKEN, RACE = "ws://127.0.0.1:3000/tracking", "PASTE-A-TOKEN", "Demo-Trail"
# A browser's WebSocket always closes in the end; Node 20's says nothing more after a handshake that failed.
CLOSE_ALWAYS_COMES = """
globalThis.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    let closed = false;
    this.addEventListener("close", () => { closed = true; });
    this.addEventListener("error", () => setTimeout(() => {
      if (!closed) this.dispatchEvent(new Event("close"));
    }, 100));
  }
};
"""
SHORT_TTL_S = 5  # long enough for an interpreter to start on a busy machine


def block(language: str, holding: str) -> str:
    """The one fenced block of this language with this text in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    found = [text for text in blocks if holding in text]
    assert len(found) == 1, f"README.md has {len(found)} {language} blocks with {holding!r}"
    return str(found[0])


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """Each of the old texts must be there."""
    for old, new in pairs:
        assert old in text, f"README.md has no {old!r} there"
        text = text.replace(old, new)
    return text


def payload(participant: str, timestamp_s: int, race: str = RACE) -> bytes:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(timestamp_s))
    fix = {"participant_id": participant, "race_id": race, "latitude": 1.5, "longitude": 2.5, "timestamp": when}
    return json.dumps(fix).encode()


@attrs.define(eq=False)
class Example:
    """A running example, and the lines it has printed."""

    process: trio.Process
    output: Path

    async def says(self, text: str, within_s: float = 30) -> None:
        with trio.move_on_after(within_s):
            while text not in self.output.read_text():
                await trio.sleep(0.02)
        assert text in self.output.read_text()


def javascript() -> tuple[str, list[str]]:
    node = shutil.which("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout if node else "none"
    if node is None or int(version[1:].partition(".")[0]) < 20:
        pytest.skip(f"README.md's JavaScript example needs node 20, here is {version.strip()}")
    # Built in since Node 20.10, behind this flag before 22.
    shim = f"data:text/javascript,{quote(CLOSE_ALWAYS_COMES)}"
    return block("javascript", "new WebSocket"), [node, "--experimental-websocket", "--import", shim]


def python() -> tuple[str, list[str]]:
    return block("python", "websockets"), [sys.executable]


@asynccontextmanager
async def example(folder: Path, language: str, port: int, token: str) -> AsyncIterator[Example]:
    """The text of README.md as a program of its own, with this address and token in it."""
    text, command = {"javascript": javascript, "python": python}[language]()
    text = replaced(text, (URL, f"ws://127.0.0.1:{port}/tracking"), (TOKEN, token))
    program = folder / f"example-{port}-{len(list(folder.iterdir()))}.{'mjs' if language == 'javascript' else 'py'}"
    program.write_text(text)
    output = program.with_suffix(".out")
    with output.open("wb") as printed:
        process = await _open([*command, str(program)], printed)
    try:
        yield Example(process, output)
    finally:
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.kill()
            await process.wait()


async def _open(command: Sequence[str], output: IO[bytes]) -> trio.Process:
    environ = {**os.environ, "WEBSOCKETS_BACKOFF_INITIAL_DELAY": "0.2"}  # the library's own is up to 5 s
    return await trio.lowlevel.open_process(command, stdout=output, stderr=subprocess.STDOUT, env=environ)


@pytest.mark.parametrize("language", ["javascript", "python"])
async def test_a_websocket_example(
    language: str, tmp_path: Path, database: Database, redis_process: tuple[RedisAddress, int]
) -> None:
    port, now_s = free_port(), int(time.time())
    async with mosquitto(tmp_path) as broker:
        settings = write_settings(tmp_path, external(broker.port, redis_process[0], database.address, port))
        await _run_example(language, tmp_path, broker, settings, port, now_s)


async def _run_example(language: str, folder: Path, broker: Mosquitto, settings: Path, port: int, now_s: int) -> None:
    async def comes(who: str, age_s: int) -> str:
        await broker.publish("tracking/x/position", [payload(who, now_s - age_s)])
        return time.strftime(f"{who} %Y-%m-%dT%H:%M:%S.000Z 1.5 2.5", time.gmtime(now_s - age_s))

    async with daemon(settings, port) as running:
        before = await comes("P001", 3)
        await running.until_metric("fixes_committed_total", 1)
        async with example(folder, language, port, await running.token("--race", RACE)) as shown:
            await shown.says(before)
            await shown.says(await comes("P001", 2))
            # In one window: a batch.
            await broker.publish("tracking/x/position", [payload(f"B{number}", now_s) for number in range(3)])
            await shown.says("B0 ")
            await shown.says("B2 ")
            assert await running.stop() == 0
            async with daemon(settings, port) as again:
                await shown.says(await comes("P009", 1))
                await _expires(folder, language, again)
            assert "rror" not in shown.output.read_text()


async def _expires(folder: Path, language: str, running: DaemonProcess) -> None:
    token = await running.token("--ttl", f"{SHORT_TTL_S}s")
    async with example(folder, language, running.port, token) as shown:
        await shown.says("P009 ")
        await shown.says("the token has expired", within_s=SHORT_TTL_S + 10)
        with trio.fail_after(10):
            await shown.process.wait()


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


def table(heading: str) -> list[str]:
    """The code words that begin the rows of the tables under a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def test_the_tables_name_what_there_is() -> None:
    assert table("For tracker developers: MQTT") == list(RejectionCode)
    listed = re.findall(r"^    (\w+) ", build().format_help().split("COMMAND\n")[1], re.MULTILINE)
    assert [row.split()[0] for row in table("Commands")] == listed


def test_it_names_every_path_and_every_alert() -> None:
    named = {
        path.partition("?")[0]
        for path in re.findall(r"^\| (`/.*?) \|", README, re.MULTILINE)
        for path in re.findall(r"`(.*?)`", path)
    }
    described = set(openapi()["paths"]) - {"/static/{name}"}
    assert named | {"/ops/grafana.json", "/ops/alerts.yml"} == described
    alerts = re.findall(r"alert: (\w+)", resources.files("actors.ops").joinpath("alerts.yml").read_text("utf-8"))
    assert set(re.findall(r"\bTracking[A-Z]\w+", README)) == set(alerts)


def test_every_settings_key_it_names_exists() -> None:
    named = re.findall(r"\[(\w+)\] (\w+)", README.replace("[section] key", ""))
    assert len(named) > 15
    assert [f"[{section}] {key}" for section, key in named if not _is_key(section, key)] == []


def _is_key(section: str, key: str) -> bool:
    keys = KEYS.get(section, {})
    return key in keys or key.removesuffix("_file") in keys


def test_the_map_names_every_file() -> None:
    folder = ROOT / "actors"
    files = (path for path in folder.rglob("*.*") if path.is_file() and "__pycache__" not in path.parts)
    there = {str(path.relative_to(folder)) for path in files if path.stat().st_size} - {"__init__.py"}
    drawn = re.findall(r"^  (\S+\.\w+) ", actors.__doc__ or "", re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    assert there - set(drawn) == set(), "files that the map in actors/__init__.py lacks: a line each, please"
    assert set(drawn) - there == set(), "files of the map in actors/__init__.py that are gone"


def test_every_test_that_the_guarantees_name_is_there() -> None:
    table = README.partition("| fault | promise | shown by |")[2].partition("\n\n")[0]
    named = re.findall(r"`((?:core|actors|simulation|live|faults)/[a-z_]+\.py)`", table)
    assert len(named) > 25
    assert [
        path
        for path in named
        if "\ndef test_" not in (text := (ROOT / "tests" / path).read_text()) and "\nasync def test_" not in text
    ] == []
