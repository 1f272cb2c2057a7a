"""Nodes that stand by for each other at other brokers: each hands its session on, and knows one client of a name."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.brokers import pipeline
from tests.brokers.servers import start_nats, start_rabbitmq
from tests.faults.nodes import nodes_of
from tests.faults.outage import own_servers
from tests.faults.proxy import proxy_to
from tests.kit.daemon import until
from tests.kit.servers import Server

pytestmark = pytest.mark.live


@pytest.mark.parametrize("start", [start_nats, pytest.param(start_rabbitmq, marks=pytest.mark.brokers)])
def test_killed_stopped_and_cut_off_from_postgresql(
    tmp_path: Path, start: Callable[[Path], AbstractContextManager[Server]]
) -> None:
    with own_servers(tmp_path, start) as own, proxy_to(own.at.postgres.port) as way:
        pipeline.settings(own)
        with nodes_of(own.at, ("a", "b"), postgres={"port": way.port, "spool_after_s": 1}) as nodes:
            a, b = nodes.all
            b.keys = {}
            a.start()
            until(lambda: a.ingest() == "reading", "it reads")
            b.start()
            nodes.one_reads("both are there")
            with pipeline.press(own) as press:
                pipeline.until_more(press)
                a.kill()
                nodes.another_reads(a, "killed")
                pipeline.until_more(press)
                a.start()
                nodes.one_reads("it is back")
                assert b.stop() == 0
                nodes.another_reads(b, "stopped")
                b.start()
                assert nodes.one_reads("all are back") is a
                pipeline.until_more(press)
                way.black_hole(True)
                nodes.another_reads(a, "its way to PostgreSQL is closed")
                until(lambda: "this node waits now" in a.running.log, "it was thrown out and knows why")
                time.sleep(5)
                way.black_hole(False)
                until(lambda: a.ingest() == "waiting", "it is back", 60)
                assert b.ingest() == "reading"
                nodes.check(press)
