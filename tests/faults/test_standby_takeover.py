"""Nodes that stand by for each other, with real servers under load: who reads changes, no row is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress, Secret
from tests.faults.nodes import Node, Nodes, nodes_of
from tests.faults.press import Press
from tests.faults.proxy import proxy_to
from tests.faults.spectator import Spectator
from tests.kit.daemon import until
from tests.kit.namespace import namespace
from tests.kit.postgres import start_postgres
from tests.kit.servers import Server
from tests.kit.station import Station, station

pytestmark = pytest.mark.live
RATE = 100.0
KILLED_S, DRAINED_S = 5.0, 1.0
"""Promised. A machine that stalls gets 2 s more."""


@contextmanager
def three(folder: Path, server: PostgresAddress, **keys: dict[str, object]) -> Iterator[Nodes]:
    """One of them reads."""
    with station(folder, server, broker="", **keys) as at, nodes_of(at) as nodes:
        for node in nodes.all:
            node.start()
        nodes.one_reads("after the first start")
        yield nodes


def press_at(at: Station) -> Press:
    return Press(at.broker.port, ("A", "B"), rate=RATE, resting=2)


def say(what: str, took_s: float) -> None:
    """Shown with -s, and where the test fails."""
    print(f"{what}: another node read after {took_s:.2f} s")


def test_killed_stopped_and_all_of_them_in_turn(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """Dashboards of a node that only shows are live all the time."""
    with three(tmp_path, postgres_server) as nodes, press_at(nodes.at) as press:
        for _ in range(2):
            reader = nodes.one_reads("before it is killed")
            time.sleep(1)
            reader.kill()
            _, took_s = nodes.another_reads(reader, "killed")
            say("killed", took_s)
            assert took_s < KILLED_S + 2
            reader.start()
            reader = nodes.one_reads("before it is stopped")
            time.sleep(1)
            assert reader.stop() == 0
            _, took_s = nodes.another_reads(reader, "stopped")
            say("stopped", took_s)
            assert took_s < DRAINED_S + 2
            reader.start()
        nodes.one_reads("before the rolling restart")
        for node in nodes.all:
            assert node.stop() == 0
            node.start()
            nodes.one_reads("rolling")
        reader = nodes.one_reads("in the end")
        with Spectator(reader.port, ("A", "B")) as here, Spectator(nodes.all[0].port, ("A", "B")) as there:
            nodes.check(press)
            until(lambda: here.shown() == there.shown() != {}, "all nodes show the same")


def test_frozen(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """Its kernel answers for it, PostgreSQL ends its session all the same. Thawed, it finds that another one reads."""
    with three(tmp_path, postgres_server) as nodes, press_at(nodes.at) as press:
        reader = nodes.one_reads("before it freezes")
        time.sleep(1)
        reader.freeze()
        other, took_s = nodes.another_reads(reader, "frozen")
        say("frozen", took_s)
        assert took_s < 10 + 2
        time.sleep(1)
        reader.thaw()
        until(lambda: reader.ingest() == "waiting", "it knows")
        assert nodes.one_reads("thawed") is other
        nodes.check(press)


def test_the_cable_of_the_reader_is_pulled(tmp_path: Path) -> None:
    """Nobody answers PostgreSQL for it, and it is PostgreSQL that gives up on it."""
    (tmp_path / "postgres").mkdir()
    with (
        namespace() as cell,
        start_postgres(tmp_path / "postgres") as server,
        station(tmp_path, address_of(server), mqtt={"keepalive_s": 5}) as at,
        proxy_to(at.broker.port, listens=cell.host) as broker,
        proxy_to(at.redis.port, listens=cell.host) as redis,
        nodes_of(at) as nodes,
    ):
        listen_at(server, cell.host)
        apart, *others = nodes.all
        apart.prefix = cell.prefix
        apart.keys = {
            "ws": {"host": cell.guest},
            "mqtt": {"broker_url": f"mqtt://{cell.host}:{broker.port}"},
            "postgres": {"host": cell.host},
            "redis": {"host": cell.host, "port": redis.port},
        }
        with proxy_to(apart.port, server=cell.guest) as seen:
            apart.seen_at = seen.port
            apart.start()
            until(lambda: apart.ingest() == "reading", "the one behind the cable reads first", 60)
            for node in others:
                node.start()
            nodes.one_reads("all are there")
            with press_at(at) as press:
                time.sleep(1)
                cell.pull()
                other, took_s = nodes.another_reads(apart, "the cable is out")
                say("cable pulled", took_s)
                assert took_s < 10 + 2
                time.sleep(5)
                assert "Connection timed out" in server.log
                cell.plug()
                until(lambda: apart.ingest() == "waiting", "it is back", 60)
                assert nodes.one_reads("the cable is in") is other
                nodes.check(press)


def address_of(server: Server) -> PostgresAddress:
    return PostgresAddress(server.host, server.port, server.username, Secret(""), server.database)


def listen_at(server: Server, host: str) -> None:
    """PostgreSQL, at this address too, and everybody is let in."""
    server.stop()
    with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 0.0.0.0/0 trust\n")
    server.argv = [*server.argv, f"--listen_addresses={server.host},{host}"]
    server.start()


def test_postgresql_restarts(tmp_path: Path) -> None:
    """Nobody takes over, and the last reader has the lock again."""
    (tmp_path / "postgres").mkdir()
    with (
        start_postgres(tmp_path / "postgres") as server,
        three(tmp_path, address_of(server), postgres={"spool_after_s": 1}) as nodes,
        press_at(nodes.at) as press,
    ):
        reader = nodes.one_reads("before")
        time.sleep(1)
        server.stop()
        time.sleep(4)
        assert reads_without_the_lock(reader)
        assert reader.ingest() == "reading", "its rows go to the spool"
        assert [node.ingest() for node in nodes.all if node is not reader] == ["", ""], "they could not take over"
        server.start()
        until(lambda: not reads_without_the_lock(reader), "it has the lock again")
        assert nodes.one_reads("PostgreSQL is back") is reader
        nodes.check(press)


def test_the_broker_restarts(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with three(tmp_path, postgres_server) as nodes, press_at(nodes.at) as press:
        time.sleep(1)
        press.pause()
        nodes.at.broker.stop()
        time.sleep(1)
        nodes.at.broker.start()
        press.resume()
        nodes.one_reads("the broker is back")
        nodes.check(press)


def test_a_reader_that_does_not_reach_the_broker_lets_another_one_try(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    with station(tmp_path, postgres_server) as at, proxy_to(at.broker.port) as way, nodes_of(at, ("a", "b")) as nodes:
        first, second = nodes.all
        first.keys = {"mqtt": {"broker_url": f"mqtt://127.0.0.1:{way.port}"}}
        first.start()
        until(lambda: first.ingest() == "reading", "it reads")
        second.start()
        nodes.one_reads("both are there")
        with press_at(at) as press:
            way.refuse(True)
            way.reset()
            other, took_s = nodes.another_reads(first, "its way to the broker is closed")
            say("without the broker", took_s)
            assert other is second
            assert 8 < took_s < 10 + 5
            until(lambda: first.ingest() == "waiting", "it waits")
            nodes.check(press)


def test_the_way_of_the_reader_to_postgresql_is_closed(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """It spools, and is relieved: the new reader throws it out. Back, it hands over what it spooled."""
    with (
        station(tmp_path, postgres_server, postgres={"spool_after_s": 1}) as at,
        proxy_to(at.postgres.port) as way,
        nodes_of(at, ("a", "b")) as nodes,
    ):
        first, second = nodes.all
        first.keys = {"postgres": {"port": way.port}}
        first.start()
        until(lambda: first.ingest() == "reading", "it reads")
        second.start()
        nodes.one_reads("both are there")
        with press_at(at) as press:
            time.sleep(1)
            way.black_hole(True)
            _, took_s = nodes.another_reads(first, "its way to PostgreSQL is closed")
            say("without PostgreSQL, alone", took_s)
            assert took_s < 10 + 2
            until(lambda: "this node waits now" in first.running.log, "it was thrown out and knows why")
            time.sleep(2)
            way.black_hole(False)
            until(lambda: first.ingest() == "waiting", "it could take over again", 60)
            assert second.ingest() == "reading"
            nodes.check(press)


def reads_without_the_lock(node: Node) -> bool:
    return b"reading without the lock" in node.running.get("/readyz")[1]
