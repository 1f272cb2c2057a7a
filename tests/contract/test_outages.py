"""The contract of outages from outside: what the daemon does while its servers are away, and after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.expected import fix, now_ms
from tests.kit.live_state import cached, seen, snapshot
from tests.kit.metrics import conserved
from tests.kit.station import Running, Station, conninfo, station, until

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Station]:
    """Servers for the module."""
    with station(tmp_path_factory.mktemp("outages"), postgres_server) as made:
        yield made


@pytest.fixture
def site(at: Station) -> Iterator[tuple[Station, Running]]:
    with at.daemon() as running:
        yield at, running


@pytest.mark.parametrize("how", ["stop", "kill", "freeze"])
def test_redis_away_nothing_else_cares_and_it_is_filled_when_it_is_back(at: Station, how: str) -> None:
    race = f"redis-{how}"
    with at.daemon() as running:
        at.send(fix(race, "before", now_ms()))
        until(lambda: cached(at, race, "before"))
        if how == "freeze":
            at.redis.sigstop()
        else:
            at.redis.stop() if how == "stop" else at.redis.kill()
        sent = [fix(race, f"P{n}", now_ms()) for n in range(50)]
        at.send(*sent)
        at.send(fix(f"new-{race}", "P1", now_ms()))  # a race that has to be restored without Redis
        running.settled(at.published)
        until(lambda: len(running.live(race)) == 51)
        assert len(snapshot(running, race)[race]) == 51
        assert set(snapshot(running, f"new-{race}")[f"new-{race}"]) == {"P1"}
        assert len(at.rows(race)) == 51
        assert running.get("/readyz/ingest")[0] == 200
        assert running.get("/readyz")[0] == 200
        until(lambda: running.metrics()['tracking_component_up{component="redis"}'] == 0, "redis seen down")
        if how == "freeze":
            at.redis.sigcont()
        else:
            at.redis.start()
        until(lambda: set(seen(at, race)) == {"before", *(f"P{n}" for n in range(50))}, "filled again")
        until(lambda: set(seen(at, f"new-{race}")) == {"P1"})
        assert cached(at, race, "before")
        assert cached(at, race, "P49")["timestamp"] == sent[49]["timestamp"]
        until(lambda: running.metrics()['tracking_component_up{component="redis"}'] == 1, "redis seen up")
        assert conserved(running.metrics())
        assert running.stop() == 0


def test_a_flushed_cache_is_filled_again(site: tuple[Station, Running]) -> None:
    at, running = site
    at.send(fix("flushed", "P1", now_ms()), fix("flushed", "P2", now_ms()))
    until(lambda: len(seen(at, "flushed")) == 2)
    at.cache.flushall()
    at.send(fix("flushed", "P2", now_ms() + 1000), fix("unrelated"))
    until(lambda: cached(at, "flushed", "P1"), "P1 did not move, and is in the cache again")
    assert conserved(running.settled(at.published))


def test_a_broker_that_restarts_is_followed(site: tuple[Station, Running]) -> None:
    at, running = site
    at.send(fix("broker", "P1"))
    running.settled(at.published)
    at.broker.stop()
    until(lambda: running.get("/readyz/ingest")[0] == 503)
    assert running.get("/readyz")[0] == 200
    assert set(running.live("broker")) == {"P1"}
    at.broker.start()
    at.send(*(fix("broker", f"P{n}") for n in range(2, 100)))
    until(lambda: running.get("/readyz/ingest")[0] == 200)
    until(lambda: len(at.rows("broker")) == 99)
    assert running.metrics()["tracking_mqtt_session_lost_total"] == 0
    at.broker.kill()
    at.broker.start()
    at.send(*(fix("broker", f"P{n}") for n in range(100, 120)))
    until(lambda: len(at.rows("broker")) == 119)
    assert conserved(running.settled(at.published))


def test_a_broker_that_forgot_the_session_is_told_loudly(site: tuple[Station, Running]) -> None:
    at, running = site
    at.send(fix("forgot", "P1"))
    running.settled(at.published)
    at.broker.stop()
    (at.broker.folder / "mosquitto.db").unlink()
    at.broker.start()
    until(lambda: running.metrics()["tracking_mqtt_session_lost_total"] == 1)
    assert "error" in running.log.lower()
    at.send(fix("forgot", "P2"))
    until(lambda: len(at.rows("forgot")) == 2)
    assert conserved(running.settled(2))


def test_all_servers_away_at_the_start(at: Station, postgres_server: PostgresAddress) -> None:
    at.send(fix("cold", "P0", now_ms()))  # for the session of the daemons before
    at.broker.stop()
    at.redis.stop()
    with psycopg.connect(conninfo(postgres_server), autocommit=True) as admin:

        def connectable(yes: bool) -> None:
            admin.execute(f"alter database {at.postgres.database} with allow_connections {yes}".encode())

        connectable(False)
        with at.daemon(ready=False) as running:

            def alive() -> bool:
                assert running.process.poll() is None, running.log
                try:
                    return running.get("/healthz")[0] == 200
                except OSError:
                    return False

            until(alive, "the daemon lives without any server")
            status, body = running.get("/readyz/ingest")
            assert status == 503
            assert {"broker", "postgres", "redis"} <= set(json.dumps(json.loads(body)).replace('"', " ").split())
            at.redis.start()
            at.broker.start()
            connectable(True)
            at.ready(running)
            at.send(fix("cold", "P1", now_ms()))
            until(lambda: len(at.rows("cold")) == 2)
            until(lambda: set(seen(at, "cold")) == {"P0", "P1"})
            assert set(running.live("cold")) == {"P0", "P1"}
            assert conserved(running.settled(2))
            assert running.stop() == 0


def test_sigterm_while_everything_is_away_still_ends_in_time(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with station(tmp_path, postgres_server, supervisor={"drain_timeout_s": 2}) as at, at.daemon() as running:
        at.send(fix("end"))
        running.settled(at.published)
        at.redis.kill()
        at.broker.kill()
        assert running.stop() == 0, "nothing was taken that is not committed"
