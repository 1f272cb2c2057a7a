"""Two nodes with topics of their own, on brokers that cannot share and split what comes by participant."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.brokers import pipeline
from tests.brokers.servers import DAEMON, RABBITMQ, start_nats, start_rabbitmq
from tests.faults.nodes import Node, nodes_of
from tests.faults.outage import Own, own_servers
from tests.kit.daemon import until
from tests.kit.readme import block
from tests.kit.servers import Server

pytestmark = pytest.mark.live

READ, WRITE = 'subscribe: ["tracking.*.position"', 'publish: ["tracking.*.position"]'


def start_nats_that_splits(folder: Path) -> AbstractContextManager[Server]:
    mapping = block("conf", "mappings:")
    pairs = (("mqtt {\n", f"{mapping}mqtt {{\n"), (READ, READ.replace("tracking.*", "shard.*.*")))
    return start_nats(folder, *pairs, (WRITE, WRITE.replace("tracking.*", "shard.*.*")))


def nothing(_own: Own) -> None:
    """NATS has it all in its file."""


def bind(own: Own) -> None:
    """The queues of the nodes are there."""
    definitions = own.at.folder / "definitions.json"
    definitions.write_text(block("json", "x-consistent-hash"))
    for argv in (
        ["rabbitmq-plugins", "enable", "rabbitmq_consistent_hash_exchange"],
        ["rabbitmqctl", "import_definitions", str(definitions)],
    ):
        env = os.environ | dict(own.at.broker.env) | {"RABBITMQ_DIST_PORT": "0"}
        argv[0] = str(RABBITMQ / argv[0])
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (argv, done.stdout, done.stderr)


@contextmanager
def splitting(own: Own, topics: dict[str, str]) -> Iterator[tuple[Node, ...]]:
    """Two nodes that take fixes."""
    login: dict[str, object] = {"username": DAEMON[0], "password": DAEMON[1], "client_id": "tracking-{node_id}"}
    with nodes_of(own.at, tuple(topics), cluster={"ingest": "alone"}, mqtt=login) as nodes:
        for node in nodes.all:
            node.keys = node.keys | {"mqtt": login | {"topics": topics[node.name]}}
            node.ready()
        yield nodes.all


@pytest.mark.parametrize(
    ("start", "topics", "prepare"),
    [
        (start_nats_that_splits, {"n1": "shard/0/+/position", "n2": "shard/1/+/position"}, nothing),
        pytest.param(start_rabbitmq, {"n1": "shard/n1", "n2": "shard/n2"}, bind, marks=pytest.mark.brokers),
    ],
)
def test_each_takes_its_part_and_one_that_is_killed_finds_its_own_again(
    tmp_path: Path,
    start: Callable[[Path], AbstractContextManager[Server]],
    topics: dict[str, str],
    prepare: Callable[[Own], None],
) -> None:
    with own_servers(tmp_path, start) as own, splitting(own, topics) as nodes:
        prepare(own)
        with pipeline.press(own) as press:
            pipeline.until_more(press, 300)
            nodes[1].kill()
            pipeline.until_more(press, 300)
            nodes[1].ready()
            pipeline.until_more(press, 100)
            press.finish()

            def stored() -> set[str]:
                return {str(one) for (one,) in own.sql("select id from tracking_positions")}

            until(lambda: stored() >= press.acknowledged, "all that was acknowledged is stored", pipeline.WITHIN_S)
            assert stored() <= press.sent.keys()
            for node in nodes:
                seen = node.running.metrics()
                assert seen["tracking_messages_received_total"] > 0
                assert seen["tracking_mqtt_session_lost_total"] == 0
                assert node.stop() == 0
