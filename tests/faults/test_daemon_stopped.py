"""The daemon itself hangs for a while: a stopped process, a machine that sleeps."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.faults.spectator import Spectator
from tests.kit.station import station, until

pytestmark = pytest.mark.live

KEEPALIVE_S = 2


@pytest.mark.parametrize("keepalives", [2.5, pytest.param(30, marks=pytest.mark.soak)])
def test_stopped_and_continued(tmp_path: Path, postgres_server: PostgresAddress, keepalives: float) -> None:
    """The broker gives it up after one and a half keepalives and keeps its messages; dashboards wait."""
    with (
        station(tmp_path, postgres_server, mqtt={"keepalive_s": KEEPALIVE_S}) as at,
        at.daemon() as running,
        Press(at.broker.port, rate=200) as press,
        Spectator(at.port, ["R"]) as spectator,
    ):
        until(lambda: len(press.acknowledged) > 200)
        os.kill(running.process.pid, signal.SIGSTOP)
        try:
            time.sleep(keepalives * KEEPALIVE_S)
            until(lambda: "tracking-backend has exceeded timeout" in at.broker.log, "the broker has given it up")
            enough = len(press.acknowledged) + 100
            until(lambda: len(press.acknowledged) >= enough, "trackers notice nothing")
        finally:
            os.kill(running.process.pid, signal.SIGCONT)
        enough = len(press.acknowledged) + 200
        until(lambda: len(press.acknowledged) >= enough)
        check(at, running, press, [spectator])
        assert running.metrics()["tracking_mqtt_session_lost_total"] == 0
        assert [line for line in running.log.splitlines() if "[error" in line] == []
        assert running.stop() == 0
