"""The daemon as a process, and what a test does around it: settings, tokens, dashboards, recordings, metrics."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from actors.core.addresses import PostgresAddress, RedisAddress
from tests.kit.described import check_frame
from tests.kit.metrics import conserved, samples

ROOT = Path(__file__).resolve().parents[2]
SUPERVISOR = str(ROOT / "supervisor.py")
START_S = 90.0


def write_settings(folder: Path, sections: Mapping[str, Mapping[str, object]]) -> Path:
    """A settings.ini with only what differs from the defaults; data_dir is in the folder."""
    path = folder / "settings.ini"
    lines = []
    all_sections: dict[str, Mapping[str, object]] = {"app": {}, **sections}
    for section, keys in all_sections.items():
        lines.append(f"[{section}]")
        if section == "app" and "data_dir" not in keys:
            lines.append("data_dir = var")
        lines += [f"{key} = {value}" for key, value in keys.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def external(
    broker_port: int, redis: RedisAddress, postgres: PostgresAddress, http_port: int
) -> dict[str, dict[str, object]]:
    """Sections for servers that the test started."""
    return {
        "app": {"port": http_port},
        "ws": {"port": http_port},
        "mqtt": {"broker_url": f"mqtt://127.0.0.1:{broker_port}"},
        "redis": {"host": "127.0.0.1", "port": redis.port, "password": redis.password.reveal()},
        "postgres": {
            "host": "127.0.0.1",
            "port": postgres.port,
            "username": postgres.user,
            "password": postgres.password.reveal(),
            "database": postgres.database,
        },
    }


@attrs.define(eq=False)
class DaemonProcess:
    """`python supervisor.py run` under a test."""

    settings: Path
    port: int
    log: Path
    process: trio.Process

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def command(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return await run_command(self.settings, *args, check=check)

    async def token(self, *args: str) -> str:
        return (await self.command("token", *args)).stdout.decode().strip()

    async def get(self, path: str, token: str = "") -> tuple[int, bytes]:
        """(status, body) of a GET."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            auth = f"Authorization: Bearer {token}\r\n" if token else ""
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{auth}Connection: close\r\n\r\n".encode())
            answer = b"".join([part async for part in stream])
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head.lower():
            body = _unchunked(body)
        return int(head.split()[1]), body

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        return samples((await self.get("/metrics"))[1].decode()).get(f"tracking_{name}", 0.0)

    async def until_metric(self, name: str, value: float, within_s: float = 60) -> None:
        """Poll: metrics are the only sign from outside."""
        with trio.fail_after(within_s):
            while await self.metric(name) < value:
                await trio.sleep(0.05)

    async def conservation_holds(self) -> bool:
        return conserved(samples((await self.get("/metrics"))[1].decode()))

    async def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = 30) -> int:
        self.process.send_signal(number)
        with trio.fail_after(within_s):
            return await self.process.wait()


async def run_command(settings: Path, *args: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """One command of supervisor.py to its end."""
    with trio.fail_after(120):
        return await trio.run_process(
            [sys.executable, SUPERVISOR, "--settings", str(settings), *args],
            capture_stdout=True,
            capture_stderr=True,
            check=check,
        )


@asynccontextmanager
async def daemon(settings: Path, port: int, *args: str) -> AsyncIterator[DaemonProcess]:
    """Started and ready; ended hard if the test did not stop it."""
    log = settings.parent / "daemon.log"
    with log.open("ab") as output:
        process = await trio.lowlevel.open_process(
            [sys.executable, SUPERVISOR, "--settings", str(settings), *args], stdout=output, stderr=output
        )
    running = DaemonProcess(settings, port, log, process)
    try:
        with trio.fail_after(START_S):
            while True:
                if process.poll() is not None:
                    raise AssertionError(f"the daemon ended with {process.returncode}:\n{log.read_text()[-3000:]}")
                try:
                    status, _ = await running.get("/readyz/ingest")
                except OSError:
                    status = 0
                if status == 200:
                    break
                await trio.sleep(0.05)
        yield running
    finally:
        print(log.read_text()[-20_000:])  # pytest shows it when the test fails
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.terminate()
                with trio.move_on_after(30):
                    await process.wait()
                if process.poll() is None:
                    process.kill()
            await process.wait()


@attrs.define(eq=False)
class Dashboard:
    """A WebSocket client that keeps what it was told, and notices when a participant goes back."""

    ws: WebSocketConnection
    live: dict[tuple[str, str], dict[str, Any]] = attrs.field(factory=dict)
    updates: list[dict[str, Any]] = attrs.field(factory=list)
    snapshots: list[dict[str, Any]] = attrs.field(factory=list)
    others: list[dict[str, Any]] = attrs.field(factory=list)
    went_back: list[dict[str, Any]] = attrs.field(factory=list)
    closed: int | None = None
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def say(self, event: str, data: Mapping[str, object] | None = None, **more: object) -> None:
        await self.ws.send_message(json.dumps({"event": event, "data": data or {}, **more}))

    async def listen(self) -> None:
        try:
            while True:
                self._take(check_frame(await self.ws.get_message()))
                self._changed.set()
                self._changed = trio.Event()
        except ConnectionClosed as closed:
            self.closed = closed.reason.code if closed.reason else None
            self._changed.set()

    async def until(self, condition: Any, within_s: float = 30) -> None:
        with trio.move_on_after(within_s):
            while not condition():
                await self._changed.wait()
            return
        raise AssertionError(f"not within {within_s} s; live {self.live}, closed {self.closed}, else {self.others}")

    def timestamps(self, race_id: str) -> dict[str, str]:
        return {pid: position["timestamp"] for (race, pid), position in self.live.items() if race == race_id}

    def _take(self, message: dict[str, Any]) -> None:
        data = message["data"]
        match message["event"]:
            case "position_update":
                self._update([data])
            case "batch_position_update":
                assert len(data["positions"]) >= 2
                self._update(data["positions"])
            case "race_snapshot":
                self.snapshots.append(message)
                for position in data["positions"]:
                    self.live[(position["raceId"], position["participantId"])] = position
            case _:
                self.others.append(message)

    def _update(self, positions: Sequence[dict[str, Any]]) -> None:
        for position in positions:
            key = (position["raceId"], position["participantId"])
            if key in self.live and position["timestamp"] < self.live[key]["timestamp"]:
                self.went_back.append(position)
            self.live[key] = position
            self.updates.append(position)


@asynccontextmanager
async def dashboard(running: DaemonProcess, *races: str) -> AsyncIterator[Dashboard]:
    """Connected, subscribed to the races, their snapshots there."""
    url = f"ws://127.0.0.1:{running.port}/tracking?token={await running.token()}"
    async with open_websocket_url(url, max_message_size=1 << 24) as ws, trio.open_nursery() as nursery:
        board = Dashboard(ws)
        nursery.start_soon(board.listen)
        for race_id in races:
            await board.say("subscribe_race", {"raceId": race_id})
        await board.until(lambda: len(board.snapshots) == len(races))
        try:
            yield board
        finally:
            # The library leaves the socket of a client open when the server closed first.
            await trio.aclose_forcefully(ws._stream)
            nursery.cancel_scope.cancel()


def recording(
    path: Path, *, races: int = 2, participants: int = 20, fixes: int = 50, step_s: int = 10
) -> list[dict[str, Any]]:
    """Write a .jsonl of made-up fixes, some of them twice and out of order; returns the distinct ones."""
    distinct: list[dict[str, Any]] = []
    for race in range(races):
        for i in range(fixes):
            for who in range(participants):
                seconds = i * step_s + who % step_s
                distinct.append(
                    {
                        "participant_id": f"P{who:03}",
                        "race_id": f"R-{race}",
                        "latitude": round(47 + race / 10 + i / 10_000, 7),
                        "longitude": round(8 + who / 1_000, 7),
                        "timestamp": f"2026-06-01T{8 + seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z",
                        "status": "moving" if i + 1 < fixes else "finished",
                    }
                )
    lines = [json.dumps(fix) for fix in distinct]
    for i in range(0, len(lines) - 7, 7):
        lines[i], lines[i + 5] = lines[i + 5], lines[i]
    lines += lines[:: max(1, len(lines) // 20)]
    path.write_text("\n".join(lines) + "\n")
    return distinct


def newest(fixes: Sequence[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """(race, participant) -> newest timestamp, as dashboards see it."""
    found: dict[tuple[str, str], str] = {}
    for fix in fixes:
        key = (fix["race_id"], fix["participant_id"])
        found[key] = max(found.get(key, ""), fix["timestamp"].replace("Z", ".000Z"))
    return found


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
    return whole
