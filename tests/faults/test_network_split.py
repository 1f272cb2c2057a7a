"""The cable of one node is pulled: the other shows and stores everything meanwhile, and afterwards nobody can tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.faults.proxy import proxy_to
from tests.faults.spectator import Spectator
from tests.kit.daemon import Running, started, write_settings
from tests.kit.metrics import conserved
from tests.kit.namespace import Namespace, namespace
from tests.kit.servers import free_port
from tests.kit.station import Station, station

pytestmark = pytest.mark.live
CUT_S = 30.0
BOTH: dict[str, object] = {"relay": "yes"}
"""Each takes everything, in a session of its own."""


@contextmanager
def node_in(cell: Namespace, at: Station) -> Iterator[Running]:
    """A node in a network of its own; its port is one of ours."""
    folder, port = at.folder / "apart", free_port()
    folder.mkdir()
    with ExitStack() as ways:
        broker, postgres, redis = (
            ways.enter_context(proxy_to(server, listens=cell.host)).port
            for server in (at.broker.port, at.postgres.port, at.redis.port)
        )
        sections = at.sections()
        sections["app"] |= {"node_id": "apart", "port": port}
        sections["ws"] |= {"port": port, "host": cell.guest}
        sections["mqtt"] |= {"client_id": "apart", "broker_url": f"mqtt://{cell.host}:{broker}"}
        sections["postgres"] |= {"host": cell.host, "port": postgres}
        sections["redis"] |= {"host": cell.host, "port": redis}
        with started(write_settings(folder, sections), port, prefix=cell.prefix) as running:
            running.port = ways.enter_context(proxy_to(port, server=cell.guest)).port
            running.until_ready()
            yield running


def test_a_node_is_cut_off_and_comes_back(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with (
        namespace() as cell,
        station(tmp_path, postgres_server, cluster=BOTH, mqtt={"keepalive_s": 5}) as at,
        at.daemon() as here,
        node_in(cell, at) as apart,
        Press(at.broker.port, ("A", "B"), rate=50, resting=2) as press,
        Spectator(here.port, ("A", "B")) as sees,
        Spectator(apart.port, ("A", "B")) as misses,
    ):
        check(at, here, press, [sees, misses])
        press.resume()
        cell.pull()
        time.sleep(CUT_S)
        check(at, here, press, [sees])
        assert misses.shown() != sees.shown()
        press.resume()
        cell.plug()
        check(at, here, press, [sees, misses])
        for node in (apart, here):
            assert conserved(node.settled(0))
            assert node.stop() == 0
