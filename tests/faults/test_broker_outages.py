"""The broker restarts, is killed, forgets or hangs while fixes come in; dashboards never stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.faults.spectator import Spectator
from tests.kit.daemon import Running, until
from tests.kit.expected import now_ms
from tests.kit.station import Station, station

pytestmark = pytest.mark.live

KEEPALIVE_S = 2
RATE = 200


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Station]:
    """Servers for the module."""
    folder = tmp_path_factory.mktemp("broker")
    with station(folder, postgres_server, mqtt={"keepalive_s": KEEPALIVE_S}) as made:
        yield made


def saved(at: Station) -> Path:
    """mosquitto's database, once it holds our session: it is written once a second."""
    database = at.broker.folder / "mosquitto.db"
    until(lambda: database.exists() and b"tracking-backend" in database.read_bytes(), "the session is on disk")
    return database


def until_more(press: Press, messages: int = 200) -> None:
    """That many more fixes are acknowledged to the trackers."""
    enough = len(press.acknowledged) + messages
    until(lambda: len(press.acknowledged) >= enough, "fixes come in")


def lost_sessions(running: Running) -> float:
    return running.metrics()["tracking_mqtt_session_lost_total"]


@pytest.mark.parametrize("how", ["sigterm", "sigkill"])
def test_restarted_under_load(at: Station, how: str) -> None:
    with (
        at.daemon() as running,
        Press(at.broker.port, race=how, rate=RATE) as press,
        Spectator(at.port, [how]) as spectator,
    ):
        saved(at)
        for _ in range(2):
            until_more(press)
            at.broker.stop() if how == "sigterm" else at.broker.kill()
            until(lambda: running.get("/readyz/ingest")[0] == 503, "noticed")
            assert running.get("/readyz")[0] == 200
            at.broker.start()
            until(lambda: running.get("/readyz/ingest")[0] == 200, "connected again")
        until_more(press)
        check(at, running, press, [spectator])
        assert lost_sessions(running) == 0
        assert spectator.connected == 1
        assert running.stop() == 0


def test_restarted_with_its_database_deleted(at: Station) -> None:
    """What it had acknowledged to trackers and not passed on is gone; nothing but that, and it is said."""
    with (
        at.daemon() as running,
        Press(at.broker.port, race="forgot", rate=RATE) as press,
        Spectator(at.port, ["forgot"]) as spectator,
    ):
        before = len(running.log)
        until_more(press)
        press.pause()  # what trackers publish before the daemon has subscribed again would be nobody's
        killed_ms = now_ms()
        at.broker.kill()
        (at.broker.folder / "mosquitto.db").unlink(missing_ok=True)
        at.broker.start()
        until(lambda: lost_sessions(running) == 1)
        (line,) = [line for line in running.log[before:].splitlines() if "[error" in line]
        assert "the broker forgot our session: messages it held for us are lost" in line
        until(lambda: running.get("/readyz/ingest")[0] == 200, "connected again")
        press.resume()
        until_more(press)
        held = {row_id for row_id, ms in press.acknowledged_ms.items() if killed_ms - 1000 < ms <= killed_ms}
        check(at, running, press, [spectator], may_be_lost=held)
        assert running.stop() == 0


@pytest.mark.parametrize("keepalives", [2.5, pytest.param(30, marks=pytest.mark.soak)])
def test_stopped(at: Station, keepalives: float) -> None:
    """It hangs: connections stay, nothing answers."""
    race = f"stopped-{keepalives}"
    with (
        at.daemon() as running,
        Press(at.broker.port, race=race, rate=RATE) as press,
        Spectator(at.port, [race]) as spectator,
    ):
        until_more(press)
        at.broker.sigstop()
        time.sleep(keepalives * KEEPALIVE_S)
        until(lambda: running.get("/readyz/ingest")[0] == 503, "noticed")
        assert running.live(race)
        at.broker.sigcont()
        until(lambda: running.get("/readyz/ingest")[0] == 200, "connected again")
        until_more(press)
        check(at, running, press, [spectator])
        assert lost_sessions(running) == 0
        assert spectator.connected == 1
        assert running.stop() == 0
