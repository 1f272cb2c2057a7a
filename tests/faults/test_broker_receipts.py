"""A broker that forgets everything: what is lost is counted and said; trackers that wait for receipts lose nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.daemon import SUPERVISOR, WITHIN_S, Running, until
from tests.kit.metrics import conserved
from tests.kit.servers import Server
from tests.kit.station import Station, station

pytestmark = pytest.mark.live

RECEIPTS: dict[str, object] = {"receipt_topic": "tracking/{participant_id}/receipt"}
PARTICIPANTS, RATE_HZ, DURATION_S = 20, 10, 6
PUBLISHED = PARTICIPANTS * RATE_HZ * DURATION_S  # seed 1: nobody finishes or rests within it


@contextmanager
def simulating(at: Station, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The race, published by a process beside the test."""
    shape = ["--participants", PARTICIPANTS, "--rate-hz", RATE_HZ, "--duration-s", DURATION_S, "--race", "R"]
    argv = [sys.executable, SUPERVISOR, "--settings", at.path, "simulate", *shape, "--seed", 1, *options]
    process = subprocess.Popen([str(word) for word in argv], stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def forget_everything(broker: Server) -> None:
    broker.kill()
    for file in broker.folder.glob("mosquitto.db*"):
        file.unlink()


def lost_sessions(running: Running) -> float:
    return running.metrics()["tracking_mqtt_session_lost_total"]


def test_trackers_that_wait_for_receipts_lose_nothing_to_a_broker_that_forgets(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    """Once while the daemon takes everything, once while it is away and all is with the broker alone."""
    with (
        station(tmp_path, postgres_server, mqtt=RECEIPTS) as at,
        at.daemon() as running,
        simulating(at, "--keep-until-receipt", "1") as trackers,
    ):
        until(lambda: len(at.rows("R")) > PUBLISHED / 10)
        forget_everything(at.broker)
        at.broker.start()
        until(lambda: lost_sessions(running) == 1)
        running.until_ready()  # a session counts once its subscription is granted
        assert running.stop() == 0
        until_published(at.broker, 20)
        forget_everything(at.broker)
        at.broker.start()
        with at.daemon() as again:
            _, said = trackers.communicate(timeout=2 * WITHIN_S)
            assert trackers.returncode == 0, said
            assert "0 rejected, 0 left without a receipt" in said
            assert "simulate: 0 sent again" not in said
            assert len(at.rows("R")) == PUBLISHED
            assert lost_sessions(again) == 1
            assert conserved(again.settled(1))
            assert again.stop() == 0


def until_published(broker: Server, messages: int) -> None:
    """That many more have come, by its own log."""
    before = broker.log.count("Received PUBLISH")
    until(lambda: broker.log.count("Received PUBLISH") >= before + messages, f"{messages} more messages")


def test_without_them_what_the_broker_forgot_is_lost_and_that_is_said(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    """The daemon is away while the race is published: every message is acknowledged, and with the broker alone."""
    with station(tmp_path, postgres_server, mqtt=RECEIPTS) as at:
        with at.daemon() as running:
            assert running.stop() == 0
        with simulating(at, "--duration-s", "0.5") as trackers:
            _, said = trackers.communicate(timeout=WITHIN_S)
            assert trackers.returncode == 0, said
            assert "nobody subscribed" not in said
        forget_everything(at.broker)
        at.broker.start()
        with at.daemon() as running:
            assert lost_sessions(running) == 1
            (line,) = [line for line in running.log.splitlines() if "[error" in line]
            assert "the broker forgot our session: messages it held for us are lost" in line
            assert at.rows("R") == []
            assert conserved(running.metrics())
            assert running.stop() == 0
