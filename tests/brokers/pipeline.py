"""A race day on another broker: everything is stopped or killed once, and each acknowledged fix is one row."""

from __future__ import annotations

import time

from paho.mqtt.enums import MQTTProtocolVersion

from tests.brokers.servers import DAEMON, TRACKER
from tests.faults.checker import Seen, check
from tests.faults.outage import Own
from tests.faults.press import Press
from tests.kit.daemon import Running, until

FIXES = 2000
RATE = 200.0
WITHIN_S = 60.0


def settings(own: Own, **more: object) -> None:
    """The daemon's, for this broker."""
    own.at.keys["mqtt"] = {"username": DAEMON[0], "password": DAEMON[1], "keepalive_s": 5, **more}


def press(own: Own, port: int = 0) -> Press:
    """Trackers, at the broker's port or another one."""
    version = MQTTProtocolVersion.MQTTv311
    return Press(port or own.at.broker.port, race="day", rate=RATE, protocol=version, login=TRACKER)


def race_day(own: Own, outage_s: float) -> Seen:
    """The daemon killed, the broker restarted and killed, PostgreSQL stopped for `outage_s`: all is there at last."""
    with own.at.daemon() as running:  # before its first subscription nobody keeps messages for the daemon
        assert running.stop() == 0
    with press(own) as trackers:
        with own.at.daemon() as running:
            until_more(trackers)
            running.kill()
        until_more(trackers)
        with own.at.daemon() as running:
            until_more(trackers)
            for end in (own.at.broker.stop, own.at.broker.kill):
                end()
                own.at.broker.start()
                until(lambda: is_reading(running), "connected again", WITHIN_S)
                until_more(trackers)
            own.server.stop()
            time.sleep(outage_s)
            own.server.start()
            until(lambda: len(trackers.sent) >= FIXES, "sent", WITHIN_S)
            seen = check(own.at, running, trackers, within_s=WITHIN_S)
            assert seen.metrics["tracking_mqtt_session_lost_total"] == 0
            assert running.stop() == 0
    return seen


def until_more(trackers: Press, messages: int = 200) -> None:
    """That many more fixes are acknowledged to the trackers."""
    enough = len(trackers.acknowledged) + messages
    until(lambda: len(trackers.acknowledged) >= enough, "fixes come in", WITHIN_S)


def is_reading(running: Running) -> bool:
    return running.get("/readyz/ingest")[0] == 200
