"""The WebSocket examples of README.md run as they stand there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import attrs
import pytest

from actors.core.addresses import PostgresAddress
from actors.dashboards.frames import LARGE_BYTES
from tests.faults.proxy import proxy_to
from tests.kit.daemon import WITHIN_S, until
from tests.kit.readme import RACE, block, payload, replaced
from tests.kit.station import Station, station

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
COMPRESSED = b"Sec-WebSocket-Extensions: permessage-deflate"  # in the answer to the handshake
MANY = 2000  # participants, whose snapshot comes in fragments
SHORT_TTL_S = 5  # long enough for an interpreter to start on a busy machine


@attrs.define(eq=False)
class Example:
    """A running example, and the lines it has printed."""

    process: subprocess.Popen[bytes]
    output: Path

    def says(self, text: str, within_s: float = WITHIN_S) -> None:
        until(lambda: text in self.output.read_text(), text, within_s)


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


@contextmanager
def example(folder: Path, language: str, port: int, token: str) -> Iterator[Example]:
    """The text of README.md as a program of its own, with this address and token in it."""
    text, command = {"javascript": javascript, "python": python}[language]()
    text = replaced(text, (URL, f"ws://127.0.0.1:{port}/tracking"), (TOKEN, token))
    program = folder / f"example-{port}-{len(list(folder.iterdir()))}.{'mjs' if language == 'javascript' else 'py'}"
    program.write_text(text)
    output = program.with_suffix(".out")
    environ = {**os.environ, "WEBSOCKETS_BACKOFF_INITIAL_DELAY": "0.2"}  # the library's own is up to 5 s
    with output.open("wb") as printed:
        process = subprocess.Popen([*command, str(program)], stdout=printed, stderr=subprocess.STDOUT, env=environ)
    try:
        yield Example(process, output)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("language", ["javascript", "python"])
def test_a_websocket_example(language: str, tmp_path: Path, postgres_server: PostgresAddress) -> None:
    now_s = int(time.time())
    with station(tmp_path, postgres_server) as at, proxy_to(at.port) as proxy:

        def comes(who: str, age_s: int) -> str:
            at.send(payload(who, now_s - age_s))
            return time.strftime(f"{who} %Y-%m-%dT%H:%M:%S.000Z 1.5 2.5", time.gmtime(now_s - age_s))

        with at.daemon() as running:
            crowd = [json.loads(payload(f"C{number}", now_s)) for number in range(MANY)]
            at.send(crowd[::2], crowd[1::2])
            before = comes("P001", 3)
            running.settled(3)
            assert len(running.get(f"/api/races/{RACE}/positions")[1]) > LARGE_BYTES
            token = at.command("token", "--race", RACE).stdout.strip()
            answer = proxy.hold("client", COMPRESSED)
            with example(tmp_path, language, proxy.port, token) as shown:
                answer.wait()
                proxy.release()
                shown.says(before)
                shown.says(f"C{MANY - 1} ")
                shown.says(comes("P001", 2))
                # In one window: a batch.
                at.send(*(payload(f"B{number}", now_s) for number in range(3)))
                shown.says("B0 ")
                shown.says("B2 ")
                assert running.stop() == 0
                with at.daemon():
                    shown.says(comes("P009", 1))
                    expires(at, language)
                assert "rror" not in shown.output.read_text()


def expires(at: Station, language: str) -> None:
    token = at.command("token", "--ttl", f"{SHORT_TTL_S}s").stdout.strip()
    with example(at.folder, language, at.port, token) as shown:
        shown.says("P009 ")
        shown.says("the token has expired", within_s=SHORT_TTL_S + WITHIN_S)
        shown.process.wait(WITHIN_S)
    with example(at.folder, language, at.port, token) as refused:
        refused.says({"javascript": "the token is refused", "python": "HTTP 401"}[language])
        refused.process.wait(WITHIN_S)
