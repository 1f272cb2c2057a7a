"""The daemon is told to end under load; or it hangs for a while: a stopped process, a machine that sleeps."""

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
from tests.kit.daemon import until
from tests.kit.expected import fix, row
from tests.kit.metrics import conserved
from tests.kit.station import station

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


def test_sigterm_under_load(tmp_path: Path, postgres_server: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it took is stored and acknowledged: nothing of it comes again."""
    monkeypatch.setattr("tests.faults.press.REPEAT", 0.0)
    with (
        station(tmp_path, postgres_server) as at,
        at.daemon() as first,
        Press(at.broker.port, rate=1000) as press,
        Spectator(at.port, ["R"]) as spectator,
    ):
        until(lambda: first.metrics()["tracking_fixes_committed_total"] > 500)
        assert first.stop() == 0
        assert "drained" in first.log
        with at.daemon() as second:
            seen = check(at, second, press, [spectator])
            assert seen.metrics["tracking_fixes_duplicate_total"] == 0
            assert seen.metrics["tracking_mqtt_session_lost_total"] == 0
    assert spectator.ends[0] == 1001


def test_sigterm_while_its_servers_are_away(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """All that it took is stored: it ends in time, and with 0."""
    with station(tmp_path, postgres_server, supervisor={"drain_timeout_s": 2}) as at, at.daemon() as running:
        at.redis.kill()
        at.send(fix("R"))  # waits for Redis, which is only a cache
        running.settled(at.published)
        at.broker.kill()
        assert running.stop() == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """With 1; the broker keeps the rest."""
    with station(tmp_path, postgres_server) as at:
        with at.daemon() as running, at.db.transaction(force_rollback=True):
            at.db.execute("lock table tracking_positions")  # the drain cannot end
            at.send(fix("R"))
            until(lambda: running.metrics()["tracking_fixes_in_flight"] == 1)
            running.process.send_signal(signal.SIGTERM)
            until(lambda: "draining" in running.log)
            assert running.stop(signal.SIGINT, within_s=10) == 1  # the drain would take 15 s
        with at.daemon() as again:
            assert conserved(again.settled(1)), "it was not acknowledged"
            assert at.rows() == [row(fix("R"))]  # PostgreSQL may still commit what waited, whoever sent it
            assert again.stop() == 0
