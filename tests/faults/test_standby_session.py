"""What nodes that stand by hand on besides the lock: what the broker's session holds. And two who hold the lock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import psycopg
import pytest

from actors.core.addresses import PostgresAddress, Secret
from tests.faults.nodes import Nodes, nodes_of
from tests.faults.press import Press
from tests.faults.proxy import proxy_to
from tests.kit.daemon import until
from tests.kit.expected import fix, now_ms, utc
from tests.kit.pooler import needs_pgbouncer, start_pgbouncer
from tests.kit.standby import Pair, sql, start_pair
from tests.kit.station import Station, conninfo, station

pytestmark = pytest.mark.live
GRANTED = "select granted from tracking_sessions where client_id = 'tracking-backend' and topics = %s"


def known(at: Station, *topics: str) -> bool:
    """The table has exactly these, and that the broker granted some."""
    return at.db.execute(GRANTED, (sorted(topics),)).fetchall() == [(True,)]


def send(at: Station, who: str) -> None:
    at.send(fix("R", who, utc(now_ms())), topic=f"{who}/position")


def people(at: Station) -> list[str]:
    return sorted(row[1] for row in at.rows())


def test_a_topic_removed_from_the_settings_is_unsubscribed_by_the_next_reader(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    """Its own data_dir has never heard of it."""
    with station(tmp_path, postgres_server) as at, nodes_of(at, ("a", "b")) as nodes:
        first, second = nodes.all
        first.keys = {"mqtt": {"topics": "kept/position,removed/position"}}
        second.keys = {"mqtt": {"topics": "kept/position"}}
        first.start()
        until(lambda: first.ingest() == "reading", "it reads")
        second.start()
        nodes.one_reads("both are there")
        until(lambda: known(at, "kept/position", "removed/position"), "what the session holds is written down")
        assert first.stop() == 0
        until(lambda: known(at, "kept/position"), "the other one has unsubscribed")
        assert "unsubscribing what was removed from the settings" in second.running.log
        send(at, "removed")
        send(at, "kept")
        until(lambda: people(at) == ["kept"], "only what is wanted comes")
        assert second.running.metrics()["tracking_mqtt_session_lost_total"] == 0


def test_a_session_that_the_broker_lost_is_noticed_by_a_reader_that_never_had_it(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    with station(tmp_path, postgres_server) as at, nodes_of(at, ("a", "b")) as nodes:
        first, second = nodes.all
        first.start()
        until(lambda: first.ingest() == "reading", "it reads")
        second.start()
        nodes.one_reads("both are there")
        until(lambda: known(at, "tracking/+/position"), "that there is a session is written down")
        first.freeze()  # or it would notice by itself
        at.broker.stop()
        (at.broker.folder / "mosquitto.db").unlink()
        at.broker.start()
        nodes.another_reads(first, "the first is frozen")
        until(lambda: second.running.metrics()["tracking_mqtt_session_lost_total"] == 1, "it is noticed")
        assert "the broker forgot our session" in second.running.log
        first.kill()


@needs_pgbouncer
def test_behind_a_pooler_the_lock_goes_another_way(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """Without `lock_host` nobody reads, and each says why."""
    with (
        start_pgbouncer(tmp_path, postgres_server, "transaction") as pooler,
        station(tmp_path, postgres_server) as at,
        nodes_of(at, ("a", "b")) as nodes,
    ):
        for node in nodes.all:
            node.keys = {"postgres": {"port": pooler.address.port, "password": ""}}
            node.start()
        for node in nodes.all:
            until(lambda node=node: "lock_host must lead to PostgreSQL itself" in node.running.log, "it says why")  # type: ignore[misc]
            assert node.ingest() == ""
            node.kill()
            node.keys["postgres"]["lock_host"] = f"127.0.0.1:{postgres_server.port}"
            node.keys["postgres"]["password"] = postgres_server.password.reveal()
            node.start()
        reader = nodes.one_reads("with a way of its own for the lock")
        reader.kill()
        nodes.another_reads(reader, "killed")


# --- an advisory lock is not copied ------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    (tmp_path / "postgres").mkdir()
    with start_pair(tmp_path / "postgres") as made:
        sql(made.primary, "alter system set synchronous_standby_names = ''")
        sql(made.primary, "select pg_reload_conf()")
        yield made


def test_after_a_fail_over_that_the_old_primary_survives_one_reads_though_two_hold_a_lock(
    pair: Pair, tmp_path: Path
) -> None:
    """Whatever the broker gave to either is in that one's database: nothing is lost between the two."""
    old = PostgresAddress(pair.primary.host, pair.primary.port, pair.primary.username, Secret(""), "postgres")
    with station(tmp_path, old) as at, proxy_to(old.port) as way, nodes_of(at, ("a", "b")) as nodes:
        stays, follows = nodes.all
        follows.keys = {"postgres": {"port": way.port}}
        stays.start()
        until(lambda: stays.ingest() == "reading", "it reads")
        follows.start()
        nodes.one_reads("both are there")
        new = attrs.evolve(at.postgres, port=pair.standby.port)
        with Press(at.broker.port, rate=100.0) as press:
            time.sleep(1)
            until(lambda: copied(pair), "the standby has all so far")
            sql(pair.standby, "select pg_promote()")
            way.server_port = pair.standby.port
            way.reset()
            until(lambda: holders(at.postgres) == holders(new) == 1, "each has the lock of one server", 60)
            until(lambda: one_settled(nodes), "one of them reads and is left alone", 60)
            nodes.check(press, nodes.stored, lambda: nodes.stored(new))


def copied(pair: Pair) -> bool:
    ((there,),) = sql(pair.primary, "select pg_current_wal_lsn()::text")
    return sql(pair.standby, f"select 1 where pg_last_wal_replay_lsn() >= '{there}'") == [(1,)]


def holders(address: PostgresAddress) -> int:
    """Sessions with an advisory lock that outlives a transaction of theirs."""
    with psycopg.connect(conninfo(address), autocommit=True) as db:
        found = db.execute(
            "select count(*) from pg_locks l join pg_stat_activity a using (pid)"
            " where l.locktype = 'advisory' and l.granted and a.application_name = 'race-tracking ingest'"
        ).fetchall()
    return int(found[0][0])


def one_settled(nodes: Nodes) -> bool:
    """For five seconds the same one reads, on one connection."""
    before = [connections(nodes), nodes.reader()]
    if before[1] is None:
        return False
    time.sleep(5)
    return [connections(nodes), nodes.reader()] == before


def connections(nodes: Nodes) -> int:
    return nodes.at.broker.log.count("as tracking-backend")
