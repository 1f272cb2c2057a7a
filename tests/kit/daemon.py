"""The daemon as a process: its settings, its start and its end, and what it says of itself.

Synchronous, because a fixture of pytest-trio lives for one test only and most daemons are shared by a whole module.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from actors.core.addresses import PostgresAddress, RedisAddress
from tests.kit.metrics import samples
from tests.kit.tokens import SECRET, token

ROOT = Path(__file__).resolve().parents[2]
SUPERVISOR = str(ROOT / "supervisor.py")
START_S = 90.0
WITHIN_S = 30.0


def until(condition: Callable[[], object], what: str = "", within_s: float = WITHIN_S, poll_s: float = 0.02) -> None:
    """Poll from outside; there is no event to wait for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(poll_s)


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
        "ws": {"port": http_port, "auth_secret": SECRET},
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
class Running:
    """The daemon as a process."""

    port: int
    process: subprocess.Popen[bytes]
    log_file: Path
    tls: ssl.SSLContext | None = None  # of its clients

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def get(self, path: str) -> tuple[int, bytes]:
        """(status, body), asked with a token for all races."""
        request = urllib.request.Request(f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}{path}")
        request.add_header("Authorization", f"Bearer {token()}")
        try:
            with urllib.request.urlopen(request, timeout=WITHIN_S, context=self.tls) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def until_ready(self, within_s: float = START_S, poll_s: float = 0.02) -> None:
        """It takes fixes."""

        def is_ready() -> bool:
            assert self.process.poll() is None, self.log[-3000:]
            with suppress(OSError):
                return self.get("/readyz/ingest")[0] == 200
            return False

        until(is_ready, "ready", within_s, poll_s)

    def ingest(self) -> str:
        """`reading` or `waiting`, where nodes stand by; empty when it does not answer, or is not ready for that."""
        with suppress(OSError):
            status, body = self.get("/readyz/ingest")
            return str(json.loads(body)["ingest"]) if status == 200 else ""
        return ""

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

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = WITHIN_S) -> int:
        """The exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def kill(self) -> None:
        """SIGKILL, and it is gone."""
        self.process.kill()
        self.process.wait()


@contextmanager
def started(
    settings: Path,
    port: int,
    environment: Mapping[str, str] = {},
    *,
    program: Sequence[str] = (SUPERVISOR,),
    tls: ssl.SSLContext | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Running]:
    """It need not be ready; its log is beside its settings. Whatever the test does, it is gone afterwards.

    `prefix` runs it somewhere else, by exec.
    """
    log = settings.with_name("daemon.log")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*prefix, sys.executable, *program, "--settings", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
        )
    running = Running(port, process, log, tls)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(WITHIN_S)
        running.kill()
