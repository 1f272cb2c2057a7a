"""A node with topics of its own leaves brokers that do not do as mosquitto does: see findings/."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.brokers.servers import DAEMON, TRACKER, start_nats, start_rabbitmq
from tests.faults.nodes import nodes_of
from tests.faults.outage import Own, own_servers
from tests.kit.daemon import until
from tests.kit.expected import fix, now_ms, utc
from tests.kit.servers import Server

pytestmark = pytest.mark.live

WAITING = 400


def start_nats_that_sends_little(folder: Path) -> AbstractContextManager[Server]:
    """At UNSUBSCRIBE it throws away whatever is beyond that."""
    return start_nats(folder, ("max_ack_pending: 10000", "max_ack_pending: 50"))


def send(own: Own, times: int) -> None:
    fixes = [fix("R", "P1", utc(now_ms() + number)) for number in range(times)]
    own.at.send_all([("tracking/P001/position", one) for one in fixes], login=TRACKER)


@pytest.mark.parametrize(
    "start", [start_nats_that_sends_little, pytest.param(start_rabbitmq, marks=pytest.mark.brokers)]
)
def test_what_waits_becomes_rows_and_nothing_more_comes(
    tmp_path: Path, start: Callable[[Path], AbstractContextManager[Server]]
) -> None:
    login: dict[str, object] = {"username": DAEMON[0], "password": DAEMON[1], "client_id": "tracking-{node_id}"}
    keys: dict[str, dict[str, object]] = {"cluster": {"ingest": "alone"}, "mqtt": login}
    with own_servers(tmp_path, start) as own, nodes_of(own.at, ("n1",), **keys) as nodes:
        node = nodes.all[0]
        node.ready()
        assert node.stop() == 0
        send(own, WAITING)
        done = node.command("leave")
        assert done.stdout.startswith(f"left the broker: {WAITING} messages were still taken")
        assert own.sql("select count(*) from tracking_positions") == [(WAITING,)]
        send(own, 10)  # to nobody
        node.ready()
        send(own, 1)
        until(lambda: own.sql("select count(*) from tracking_positions") == [(WAITING + 1,)], "a new session")
        assert node.running.metrics()["tracking_messages_received_total"] == 1
        assert node.running.metrics()["tracking_mqtt_session_lost_total"] == 0
        assert node.stop() == 0
