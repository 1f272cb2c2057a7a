"""Whose session is it: two daemons with one client_id, a broker that only restarts, one that refuses a subscription."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
import trio

from actors.core.addresses import PostgresAddress, RedisAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.faults.proxy import proxy_to
from tests.kit.daemon import Running, external, started, until, write_settings
from tests.kit.expected import fix, now_ms
from tests.kit.metrics import conserved
from tests.kit.scripted_broker import scripted_broker
from tests.kit.servers import free_port
from tests.kit.station import station
from tests.kit.stores import Database

pytestmark = pytest.mark.live
RESTARTS = 5


def errors(running: Running) -> list[str]:
    return [line for line in running.log.splitlines() if "[error" in line]


def test_of_two_daemons_with_one_client_id_one_ends_and_says_why(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    with station(tmp_path, postgres_server) as at:
        (tmp_path / "second").mkdir()
        beside = attrs.evolve(at, folder=tmp_path / "second", port=free_port())
        with (
            at.daemon() as one,
            Press(at.broker.port, rate=100, participants=5) as press,
            beside.daemon(ready=False) as two,
        ):
            until(lambda: one.process.poll() is not None or two.process.poll() is not None, "one of them ends")
            lost = one if one.process.poll() is not None else two
            (stays, where) = (two, beside) if lost is one else (one, at)
            assert lost.process.returncode == 1, lost.log
            (line,) = errors(lost)
            assert "another client seems to use our client_id 'tracking-backend'" in line
            assert "drained: everything taken is committed and acknowledged" in lost.log
            stays.until_ready()
            after = len(press.acknowledged) + 100  # newer than what only the other one had seen
            until(lambda: len(press.acknowledged) > after)
            check(where, stays, press)
            assert errors(stays) == []
            assert stays.stop() == 0


def test_a_broker_that_restarts_again_and_again_ends_nobody(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """Back within the daemon's first wait, so that no attempt to connect fails in between."""
    with (
        station(tmp_path, postgres_server) as at,
        at.daemon() as running,
        Press(at.broker.port, rate=100) as press,
    ):
        saved = at.broker.folder / "mosquitto.db"
        until(lambda: saved.exists() and b"tracking-backend" in saved.read_bytes(), "the session is on disk")
        kills_ms = []
        for number in range(1, RESTARTS + 1):
            if number % 2:
                at.broker.stop()
            else:
                kills_ms.append(now_ms())
                at.broker.kill()
            at.broker.start()
            until_connected(running, number + 1)
        acknowledged = press.acknowledged_ms.items()
        # It had them for a daemon that was not back yet, and wrote its memory to disk up to a second before.
        held = {row_id for row_id, ms in acknowledged for kill_ms in kills_ms if kill_ms - 2000 < ms <= kill_ms}
        check(at, running, press, may_be_lost=held)
        assert errors(running) == []
        assert running.stop() == 0


def test_a_network_that_closes_our_connection_again_and_again_ends_nobody(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    """In order and between two packets, and no other connection: but the broker has kept what was not acknowledged."""
    with station(tmp_path, postgres_server) as at, proxy_to(at.broker.port) as wire:
        at.keys["mqtt"] = {"broker_url": f"mqtt://127.0.0.1:{wire.port}"}
        with at.daemon() as running, Press(at.broker.port, rate=300) as press:
            for number in range(1, RESTARTS + 1):
                wire.cut_after(to_server=100, how="fin").wait()
                until_connected(running, number + 1)
            check(at, running, press)
            assert errors(running) == []
            assert running.stop() == 0


def until_connected(running: Running, times: int) -> None:
    up = "component=broker detail=ok"
    until(lambda: running.log.count(up) >= times, f"connected for the {times}th time")


def test_a_forgotten_session_is_told_after_a_restart_of_the_daemon_too(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    """What came while both were away is lost upstream: nobody but the daemon can know that there was a session."""
    with station(tmp_path, postgres_server) as at:
        with at.daemon() as running:
            assert running.metrics()["tracking_mqtt_session_lost_total"] == 0, "the first session was never there"
            assert running.stop() == 0
        at.send(fix("R"))
        at.broker.stop()
        (at.broker.folder / "mosquitto.db").unlink()
        at.broker.start()
        with at.daemon() as running:
            assert running.metrics()["tracking_mqtt_session_lost_total"] == 1
            (line,) = errors(running)
            assert "the broker forgot our session" in line
            at.send(fix("R", "P2"))
            assert conserved(running.settled(1))
            assert [row[1] for row in at.rows("R")] == ["P2"]


async def test_a_refused_subscription_is_an_error_that_names_the_topic(
    tmp_path: Path, database: Database, redis_process: tuple[RedisAddress, int]
) -> None:
    """mosquitto 2.0.11 grants what its ACL denies, so the broker is a scripted one."""
    async with scripted_broker() as broker:
        broker.suback = b"\x01\x87"
        sections = external(broker.port, redis_process[0], database.address, port := free_port())
        sections["mqtt"]["topics"] = "race/+/position, secret/+/position"
        with started(write_settings(tmp_path, sections), port) as running:
            await trio.to_thread.run_sync(until, lambda: "refused a subscription" in running.log, "told", 60)
            (line,) = errors(running)
            assert "secret/+/position" in line
            assert "Not authorized" in line
            status, body = await trio.to_thread.run_sync(running.get, "/readyz/ingest")
            assert status == 503
            assert "subscription secret/+/position refused: Not authorized" in json.dumps(json.loads(body))
            assert await trio.to_thread.run_sync(running.stop) == 0
