"""Nobody takes the log: stderr is closed, or a pipe that is full. The daemon goes on, and stops cleanly."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.kit.daemon import SUPERVISOR, Running, until
from tests.kit.station import Station, station

pytestmark = pytest.mark.live


@contextmanager
def daemon(at: Station, stderr: int | None) -> Iterator[Running]:
    """None: closed, as by `2>&-` in a shell."""
    argv = [sys.executable, SUPERVISOR, "--settings", str(at.settings())]
    if stderr is None:
        argv = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *argv]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    running = Running(at.port, process, Path(os.devnull))
    try:
        running.until_ready()
        yield running
    finally:
        process.kill()
        process.wait()


def full_pipe(stack: ExitStack) -> int:
    """The writing end of a pipe that takes not one byte more, and that nobody reads."""
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    stack.callback(os.close, writing)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    try:
        while os.write(writing, b"x"):
            pass
    except BlockingIOError:
        os.set_blocking(writing, True)
    return writing


@pytest.mark.parametrize("way", ["closed", "full"])
def test_a_log_that_nobody_takes(tmp_path: Path, postgres_server: PostgresAddress, way: str) -> None:
    """With `debug` and payloads that are rejected there is a lot to say."""
    with ExitStack() as stack, station(tmp_path, postgres_server, app={"log_level": "debug"}) as at:
        stderr = full_pipe(stack) if way == "full" else None
        with daemon(at, stderr) as running, Press(at.broker.port, rate=200) as press:
            until(lambda: len(press.acknowledged) > 200)
            at.send(*(b"rubbish %d" % number for number in range(50)))
            at.broker.stop()
            at.broker.start()
            enough = len(press.acknowledged) + 200
            until(lambda: len(press.acknowledged) > enough)
            check(at, running, press)
            assert at.db.execute("select count(*) from tracking_rejections").fetchone() == (50,)
            assert running.stop() == 0
