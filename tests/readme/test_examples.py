"""The WebSocket examples of README.md run as they stand there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

import attrs
import pytest
import trio

from actors.core.addresses import RedisAddress
from tests.kit.daemon import DaemonProcess, daemon, external, write_settings
from tests.kit.readme import RACE, block, payload, replaced
from tests.kit.servers import free_port
from tests.kit.stores import Database
from tests.mqtt.mqtt_desk import Mosquitto, mosquitto

pytestmark = pytest.mark.live

URL, TOKEN = "ws://127.0.0.1:3000/tracking", "PASTE-A-TOKEN"
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
        await shown.says("the token has expired", within_s=SHORT_TTL_S + 30)
        with trio.fail_after(30):
            await shown.process.wait()
    async with example(folder, language, running.port, token) as refused:
        await refused.says({"javascript": "the token is refused", "python": "HTTP 401"}[language])
        with trio.fail_after(30):
            await refused.process.wait()
