"""The embedded NATS under load: daemon and broker killed and stopped, and each acknowledged fix is one row."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from actors.core.addresses import PostgresAddress
from actors.settings.load import Settings
from tests.brokers.pipeline import WITHIN_S, is_reading, until_more
from tests.embedded.embedded_place import SUPERVISOR_WITHOUT_MOSQUITTO, Place
from tests.faults.checker import check
from tests.faults.press import Press
from tests.kit.daemon import until
from tests.kit.servers import Server, free_port
from tests.kit.station import station
from tests.kit.stores import postgres_server as postgres_server

pytestmark = pytest.mark.live

RATE = 300.0


@contextmanager
def nobody(folder: Path) -> Iterator[Server]:
    """Where the daemon's own broker will listen."""
    yield Server(folder, free_port(), ())


def test_a_race_day(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with station(tmp_path, postgres_server, broker=nobody) as at:
        at.program = ("-c", SUPERVISOR_WITHOUT_MOSQUITTO)
        at.keys["mqtt"] = {"broker_url": "embedded", "embedded_bind": f"127.0.0.1:{at.broker.port}"}
        place = Place(tmp_path / "var", Settings())
        with at.daemon() as running:  # before its first subscription nobody keeps messages for the daemon
            assert running.stop() == 0
        with Press(at.broker.port, "day", rate=RATE, protocol=MQTTProtocolVersion.MQTTv311) as trackers:
            with at.daemon() as running:
                until_more(trackers)
                running.kill()
            until_more(trackers)  # the broker outlives it, until the next one stops it in the middle of all this
            with at.daemon() as running:
                until_more(trackers)
                killed = place.pid("nats")
                os.kill(killed, signal.SIGKILL)
                until(lambda: place.pid("nats") not in (killed, 0) and is_reading(running), "connected again", WITHIN_S)
                until_more(trackers)
                assert running.stop() == 0
            with at.daemon() as running:
                until_more(trackers)
                seen = check(at, running, trackers, within_s=WITHIN_S)
                assert seen.metrics["tracking_mqtt_session_lost_total"] == 0
                assert running.stop() == 0
