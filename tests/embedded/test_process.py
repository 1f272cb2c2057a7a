"""Child processes: recorded before they are what they will be, ended by the next daemon, and nobody else ever is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from actors.core.errors import NotStarted
from actors.embedded import process
from actors.embedded.process import Plan, end_leftovers, start, start_ticks, tail
from tests.embedded.embedded_place import until

pytestmark = pytest.mark.live

STUBBORN = "trap '' TERM; echo ready; sleep 60 & wait; wait"


def plan(folder: Path, *argv: str, stop_signal: signal.Signals = signal.SIGTERM) -> Plan:
    return Plan("thing", argv, folder, folder, stop_signal)


@asynccontextmanager
async def leftover(folder: Path, *argv: str) -> AsyncIterator[process.Running]:
    """A child that no daemon looks after."""
    running = await start(plan(folder, *argv))
    await until(lambda: len((folder / "thing.pid").read_text().splitlines()) == 2)
    yield running
    running.process.kill()
    await running.process.wait()


async def test_the_record_is_written_by_the_child_before_it_becomes_the_server(tmp_path: Path) -> None:
    async with leftover(tmp_path, "/bin/cat", "/proc/self/stat") as running:
        await running.process.wait()
        boot, stat = (tmp_path / "thing.pid").read_text().splitlines()
        itself = (tmp_path / "thing.log").read_text()
        assert boot == f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} 15"
        assert stat.split()[0] == itself.split()[0] == str(running.process.pid)
        assert stat.rpartition(")")[2].split()[19] == itself.rpartition(")")[2].split()[19]
        assert "(sh)" in stat
        assert "(cat)" in itself


async def test_it_reads_nothing_and_gets_only_the_environment_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2")
    running = await start(plan(tmp_path, "/bin/sh", "-c", 'cat; env; echo "$#:$1"; ps -o sid= -p $$', "x", "a b'\"$\\"))
    await running.process.wait()
    await running.stop(1)
    told = running.why()
    assert "hunter2" not in told
    assert "LC_ALL=C.UTF-8" in told
    assert "1:a b'\"$\\" in told
    assert str(running.process.pid) in told, "a session of its own"
    assert not (tmp_path / "thing.pid").exists()


async def test_what_a_killed_daemon_left_is_ended(tmp_path: Path) -> None:
    async with leftover(tmp_path, "/bin/sleep", "60") as running:
        await ended_with(tmp_path, running)
        assert running.process.returncode == -signal.SIGTERM
        assert not (tmp_path / "thing.pid").exists()


async def test_what_does_not_end_when_asked_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LEFTOVER_S", 0.3)
    async with leftover(tmp_path, "/bin/sh", "-c", STUBBORN) as running:
        await until(lambda: "ready" in running.why())
        await until(lambda: len(children(running.process.pid)) == 1)
        (child,) = children(running.process.pid)
        await ended_with(tmp_path, running)
        assert running.process.returncode == -signal.SIGKILL
        await until(lambda: start_ticks(child) == "")


async def ended_with(folder: Path, running: process.Running) -> None:
    """A zombie counts as ended, but somebody has to reap it: here it is our child."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.process.wait)
            await end_leftovers(folder)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of our servers."""
    running = subprocess.Popen(["/bin/sleep", "60"])
    yield running
    running.kill()
    running.wait()


@pytest.mark.parametrize("what", ["start time", "boot", "signal", "half", "empty", "junk"])
async def test_nobody_else_is_signalled(what: str, other: subprocess.Popen[bytes], tmp_path: Path) -> None:
    stat = Path(f"/proc/{other.pid}/stat").read_text()
    boot = process.BOOT_ID.read_text().strip()
    head, fields = stat.rpartition(")")[0] + ")", stat.rpartition(")")[2].split()
    later = " ".join([*fields[:19], str(int(fields[19]) + 1), *fields[20:]])
    (tmp_path / "thing.pid").write_text(
        {
            "start time": f"{boot} 15\n{head} {later}\n",
            "boot": f"another-boot 15\n{stat}",
            "signal": f"{boot} x\n{stat}",
            "half": f"{boot} 15\n{other.pid} (sl",
            "empty": "",
            "junk": "\0\n\xff",
        }[what]
    )
    with trio.fail_after(30):
        await end_leftovers(tmp_path)
    assert other.poll() is None
    assert not (tmp_path / "thing.pid").exists()


async def test_one_that_cannot_be_ended_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LEFTOVER_S", 0.1)
    monkeypatch.setattr(process, "KILL_S", 0.1)
    async with leftover(tmp_path, "/bin/sleep", "60") as running:
        with monkeypatch.context() as deaf, pytest.RaisesGroup(NotStarted) as caught:
            deaf.setattr(os, "kill", lambda *_: None)
            deaf.setattr(os, "killpg", lambda *_: None)
            await end_leftovers(tmp_path)
        assert str(caught.value.exceptions[0]) == (
            f"process {running.process.pid}, which a killed daemon left behind, does not end: end it by hand"
        )
        assert (tmp_path / "thing.pid").exists()


async def test_one_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match=r"embedded thing cannot be started: .*No such file or directory"):
        await start(Plan("thing", ["/bin/true"], tmp_path / "missing", tmp_path, signal.SIGTERM))


async def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_BYTES", 10)
    for number in range(3):
        running = await start(plan(tmp_path, "/bin/echo", f"start number {number}"))
        await running.process.wait()
        await running.stop(1)
    assert (tmp_path / "thing.log").read_text() == "start number 2\n"
    assert (tmp_path / "thing.log.old").read_text() == "start number 1\n"


async def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "thing.log").symlink_to(tmp_path / "victim")
    with pytest.raises(NotStarted, match="cannot be started"):
        await start(plan(tmp_path, "/bin/echo", "x"))
    assert (tmp_path / "victim").read_text() == "untouched"


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(path) == "(no log: No such file or directory)"
    path.write_bytes(b"first\n" + b"x" * 9000 + b"\n\xff" + b"".join(b"line %d\n" % number for number in range(20)))
    assert tail(path).splitlines() == [f"  | line {number}" for number in range(8, 20)]
