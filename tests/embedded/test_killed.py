"""A daemon with embedded servers that is killed, and the next one on its data_dir."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.embedded.embedded_place import SUPERVISOR_WITHOUT_MOSQUITTO, Place, embedded, make_place, reachable_folder
from tests.embedded.test_servers import ALL
from tests.kit.daemon import SUPERVISOR
from tests.kit.servers import free_port

pytestmark = pytest.mark.live


@pytest.fixture
def place() -> Iterator[Place]:
    with reachable_folder() as folder, make_place(folder / "var") as made:
        yield made


@asynccontextmanager
async def daemon(place: Place, broker: str = "mosquitto") -> AsyncIterator[tuple[trio.Process, bytes]]:
    """`supervisor.py run` in a process of its own, ready, and what it logged until then. Killed in the end."""
    port = free_port()
    settings = place.data_dir.parent / "settings.ini"
    settings.write_text(
        f"[app]\ndata_dir = {place.data_dir}\nport = {port}\n[ws]\nport = {port}\n"
        f"[mqtt]\nembedded_bind = {place.settings.mqtt.embedded_bind}\n"
    )
    program = [SUPERVISOR] if broker == "mosquitto" else ["-c", SUPERVISOR_WITHOUT_MOSQUITTO]
    argv = [sys.executable, *program, "--settings", str(settings), "run"]
    process = await trio.lowlevel.open_process(argv, stderr=subprocess.PIPE)
    assert process.stderr is not None
    logged = b""
    async with process.stderr:
        try:
            with trio.fail_after(60):
                async for part in process.stderr:
                    logged += part
                    if b" ready " in logged:
                        break
            assert b" ready " in logged, logged.decode()
            yield process, logged
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()


@pytest.mark.parametrize("broker", ["mosquitto", "nats"])
async def test_after_kill_9_the_next_start_leaves_one_of_each(place: Place, broker: str) -> None:
    servers = sorted([broker, "postgres", "valkey"])
    async with daemon(place, broker):
        first = {name: place.pid(name) for name in servers}
    assert place.servers() == servers, "they outlive it: no PDEATHSIG"
    async with daemon(place, broker) as (process, logged):
        assert logged.count(b"left behind") == 3
        assert place.servers() == servers
        assert {place.pid(name) for name in servers}.isdisjoint(first.values())
        process.terminate()
        with trio.fail_after(60):
            assert await process.wait() == 0
    assert place.servers() == []
    assert list(place.data_dir.glob("*.pid")) == []


async def test_after_kill_9_servers_that_are_external_now_are_ended_too(place: Place) -> None:
    async with daemon(place):
        pass
    async with embedded(place.only("redis")):
        assert place.servers() == ["valkey"]


async def test_a_second_daemon_says_so_in_one_line_and_exits_1(place: Place) -> None:
    async with daemon(place) as (first, _):
        argv = [sys.executable, SUPERVISOR, "--settings", str(place.data_dir.parent / "settings.ini"), "run"]
        second = await trio.run_process(argv, check=False, capture_stderr=True)
        assert second.returncode == 1
        assert second.stderr.decode().splitlines() == [
            f"another daemon uses data_dir {place.data_dir}: stop it, or set another [app] data_dir"
        ]
        assert place.servers() == ALL
        first.terminate()
        with trio.fail_after(60):
            assert await first.wait() == 0
