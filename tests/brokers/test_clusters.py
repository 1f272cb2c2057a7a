"""Three nodes, of which one is killed that both the trackers and the daemon are connected to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.brokers import pipeline
from tests.brokers.pipeline import until_more
from tests.brokers.servers import start_nats_cluster, start_rabbitmq_cluster
from tests.faults.checker import check
from tests.faults.outage import Own, own_servers
from tests.faults.proxy import Proxy, proxy_to
from tests.kit.daemon import until
from tests.kit.servers import Server

pytestmark = [pytest.mark.live, pytest.mark.brokers]

StartNodes = Callable[[Path], AbstractContextManager[list[Server]]]


@contextmanager
def three(folder: Path, start: StartNodes) -> Iterator[tuple[Own, list[Server], Proxy]]:
    """The nodes, and a load balancer in front of the first of them."""
    nodes: list[Server] = []

    @contextmanager
    def start_broker(at: Path) -> Iterator[Server]:
        with start(at) as started:
            nodes.extend(started)
            yield started[0]

    with own_servers(folder, start_broker) as own, proxy_to(nodes[0].port) as balancer:
        yield own, nodes, balancer


def start_again(node: Server) -> None:
    """Twice where it ends at once, as their units of systemd do (Restart=on-failure): a node of RabbitMQ 3.10 that
    starts while the others are about to elect a leader may give up."""
    try:
        node.start()
    except AssertionError:
        assert node.process is not None
        assert node.process.poll() not in (None, 0), node.log[-3000:]
        node.process = None
        node.start()


@pytest.mark.parametrize("start", [start_nats_cluster, start_rabbitmq_cluster])
def test_a_node_is_killed(tmp_path: Path, start: StartNodes) -> None:
    """The daemon knows the load balancer alone."""
    with three(tmp_path, start) as (own, nodes, balancer):
        pipeline.settings(own, broker_url=f"mqtt://127.0.0.1:{balancer.port}")
        with own.at.daemon() as running:  # before its first subscription nobody keeps messages for the daemon
            assert running.stop() == 0
        with own.at.daemon() as running, pipeline.press(own, balancer.port) as trackers:
            until_more(trackers, 500)
            nodes[0].kill()
            balancer.server_port = nodes[1].port
            until_more(trackers, 500)
            start_again(nodes[0])
            until_more(trackers, 200)
            nodes[1].stop()
            balancer.server_port = nodes[0].port
            until_more(trackers, 500)
            # Of two nodes neither takes anything: nothing is acknowledged that one alone holds.
            nodes[0].kill()
            balancer.server_port = nodes[2].port
            alone = len(trackers.acknowledged)
            until(lambda: not pipeline.is_reading(running), "noticed")
            start_again(nodes[1])
            balancer.server_port = nodes[1].port
            until(lambda: pipeline.is_reading(running), "connected again", pipeline.WITHIN_S)
            until_more(trackers, 200)
            assert alone < len(trackers.acknowledged)
            seen = check(own.at, running, trackers, within_s=pipeline.WITHIN_S)
            assert seen.metrics["tracking_mqtt_session_lost_total"] == 0
            assert running.stop() == 0


@pytest.mark.parametrize("start", [start_nats_cluster, start_rabbitmq_cluster])
def test_each_node_once(tmp_path: Path, start: StartNodes) -> None:
    """The daemon knows them all, and which version of MQTT they speak it finds out."""
    with three(tmp_path, start) as (own, nodes, balancer):
        urls = ",".join(f"mqtt://127.0.0.1:{node.port}" for node in nodes)
        pipeline.settings(own, broker_url=urls)
        with own.at.daemon() as running:  # before its first subscription nobody keeps messages for the daemon
            assert running.stop() == 0
        with own.at.daemon() as running, pipeline.press(own, balancer.port) as trackers:
            until_more(trackers, 200)
            for number, node in enumerate(nodes):
                node.kill()
                balancer.server_port = nodes[(number + 1) % len(nodes)].port
                until(lambda: pipeline.is_reading(running), "connected again", pipeline.WITHIN_S)
                until_more(trackers, 200)
                start_again(node)
                until_more(trackers, 200)
            seen = check(own.at, running, trackers, within_s=pipeline.WITHIN_S)
            assert seen.metrics["tracking_mqtt_session_lost_total"] == 0
            assert running.stop() == 0
