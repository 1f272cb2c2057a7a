"""Looks at a running daemon as a stranger would: from the contract alone, over MQTT, HTTP and WebSocket.

One daemon serves all tests of a folder, so each test uses races of its own (`Place.race`).
"""

from __future__ import annotations

import functools
import json
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import attrs
import trio
from prometheus_client.parser import text_string_to_metric_families

from actors.core.addresses import PostgresAddress
from tests.kit.client import WITHIN_S, Dashboard, connected
from tests.kit.daemon import Running
from tests.kit.described import check_http
from tests.kit.servers import Server
from tests.kit.tokens import token

LISTED = "https://one.example"
Json = dict[str, Any]


def iso(ms: int) -> str:
    """As the daemon writes times."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03}Z"


def now_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000


def fix(race: str, who: str, when_ms: int, status: str = "moving", latitude: float = -7.9456) -> Json:
    """As a tracker sends it."""
    place = {"latitude": latitude, "longitude": 112.6145}
    return {"participant_id": who, "race_id": race, **place, "timestamp": iso(when_ms), "status": status}


@attrs.frozen
class Answer:
    """Of HTTP."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"].partition(";")[0] == "application/json"
        return json.loads(self.body)

    def error(self, status: int) -> str:
        """The code of the error that this answer is; its form is checked."""
        assert self.status == status, (self.status, self.body)
        assert list(self.json) == ["error"]
        assert set(self.json["error"]) == {"code", "message"}
        assert self.json["error"]["message"]
        code: str = self.json["error"]["code"]
        return code


@attrs.define(eq=False)
class Place:
    """A daemon that runs."""

    running: Running
    app_port: int
    broker: Server
    topic: str
    database: PostgresAddress

    @property
    def port(self) -> int:
        """[ws] port."""
        return self.running.port

    def race(self) -> str:
        """An id that nobody has used."""
        return f"R-{secrets.token_hex(6)}"

    async def open(
        self, port: int = 0, receive_bytes: int = 0
    ) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        """A connection; `receive_bytes` makes the kernel's buffer of it small."""
        stream = await connected(port or self.port, receive_bytes)
        tls = self.running.tls
        return trio.SSLStream(stream, tls, server_hostname="127.0.0.1", https_compatible=True) if tls else stream

    async def request(
        self,
        target: str,
        *,
        method: str = "GET",
        token: str = "",
        port: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on its own connection. A header of None is left out."""
        fields = {"Host": f"127.0.0.1:{port or self.port}", "Connection": "close", **(headers or {})}
        if token:
            fields["Authorization"] = f"Bearer {token}"
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        stream = await self.open(port)
        with trio.fail_after(WITHIN_S):
            await stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode())
            received = bytearray()
            upgrading = "Upgrade" in fields
            while data := await stream.receive_some():
                received += data
                if upgrading and received.startswith(b"HTTP/1.1 101") and b"\r\n\r\n" in received:
                    break
        await trio.aclose_forcefully(stream)
        answer = _answer(bytes(received))
        if not upgrading:
            check_http(method, target, answer.status, answer.headers, answer.body)
        return answer

    async def handshake(
        self,
        target: str = "/tracking",
        *,
        protocols: str = "",
        origin: str = "",
        port: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to an attempt to open a WebSocket."""
        fields = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            **({"Sec-WebSocket-Protocol": protocols} if protocols else {}),
            **({"Origin": origin} if origin else {}),
            **(headers or {}),
        }
        return await self.request(target, port=port, headers={k: v for k, v in fields.items() if v != "-"})

    @asynccontextmanager
    async def dashboard(
        self, races: object = None, *, access: str = "", port: int = 0, receive_bytes: int = 0
    ) -> AsyncIterator[Dashboard]:
        """A client with a token for these races, None = all."""
        stream = await self.open(port, receive_bytes)
        host = f"127.0.0.1:{port or self.port}"
        async with Dashboard.on(stream, f"/tracking?token={access or token(races)}", Host=host) as board:
            yield board

    async def publish(self, *payloads: object, pause_s: float = 0) -> None:
        """A message each, in order; the broker has them all when this returns. `pause_s`: spread over so long."""
        lines = [json.dumps(payload).encode() + b"\n" for payload in payloads]
        argv = ["mosquitto_pub", "-p", str(self.broker.port), "-t", f"{self.topic}/x/position", "-q", "1", "-l"]
        pieces = 50 if pause_s else 1
        size = -(-len(lines) // pieces)
        async with trio.open_nursery() as nursery:
            run = functools.partial(trio.run_process, argv, stdin=subprocess.PIPE)
            process: trio.Process = await nursery.start(run)
            assert process.stdin is not None
            async with process.stdin:
                for i in range(0, len(lines), size):
                    await process.stdin.send_all(b"".join(lines[i : i + size]))
                    await trio.sleep(pause_s / pieces)

    async def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """(name, labels) -> value, of /metrics."""
        text = (await self.request("/metrics")).body.decode()
        return {
            (sample.name, tuple(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of its samples with these labels."""
        return sum(
            value
            for (found, having), value in (await self.samples()).items()
            if found == f"tracking_{name}" and labels.items() <= dict(having).items()
        )

    async def until_metric(
        self, name: str, holds: Callable[[float], bool], within_s: float = WITHIN_S, **labels: str
    ) -> None:
        """Poll: nothing else tells it to the outside."""
        with trio.fail_after(within_s):
            while not holds(await self.metric(name, **labels)):
                await trio.sleep(0.05)

    async def stored(self, *fixes: Json) -> None:
        """Publish, and wait until they are in history; each must be new."""
        before = await self.metric("fixes_committed_total")
        await self.publish(*fixes)
        await self.until_metric("fixes_committed_total", lambda value: value >= before + len(fixes))


def _answer(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = (
            f"{headers[name.lower()]}, {value.strip()}" if name.lower() in headers else value.strip()
        )
    if headers.get("transfer-encoding") == "chunked":
        whole, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            whole, rest = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        body = whole
    return Answer(int(first.split()[1]), headers, body)
