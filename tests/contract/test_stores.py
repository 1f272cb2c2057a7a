"""The contract of the stores from outside: the tables, the cache, the order of live positions, restarts."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.core.addresses import PostgresAddress
from tests.contract.contract_schema import INDEXES, check_schema
from tests.kit.daemon import Running, until
from tests.kit.expected import STATUSES, fix, fix_id, now_ms, row, unix_ms, utc
from tests.kit.live_state import cached, last, seen, snapshot
from tests.kit.metrics import conserved
from tests.kit.station import Station, station

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Station]:
    """Servers for the module."""
    with station(tmp_path_factory.mktemp("stores"), postgres_server, redis={"ttl_s": 86_399}) as made:
        yield made


@pytest.fixture
def site(at: Station) -> Iterator[tuple[Station, Running]]:
    with at.daemon() as running:
        yield at, running


# --- the schema ------------------------------------------------------------------------------------------------


def test_migrate_makes_the_schema_of_the_contract_and_dry_run_makes_nothing(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    with station(tmp_path, postgres_server) as at:
        tables = "select count(*) from information_schema.tables where table_name like 'tracking%%'"
        dry = at.here(["migrate", "--dry-run"])[0]
        for name in ("participant_status", "tracking_positions", "tracking_rejections", *INDEXES):
            if not name.endswith("_pkey"):
                assert name in dry.stdout
        assert at.db.execute(tables, ()).fetchone() == (0,)
        at.here(["migrate"])
        check_schema(at)
        # A row by hand needs no more than what has no default.
        at.db.execute(
            "insert into tracking_positions (participant_id, race_id, latitude, longitude, client_timestamp) "
            "values ('P', 'R', 1.23456789, 2, now())"
        )
        ((latitude, status, age_s),) = at.db.execute(
            "select latitude::text, status::text, extract(epoch from now() - server_received_at)::float "
            "from tracking_positions"
        )
        assert (latitude, status) == ("1.2345679", "moving")
        assert 0 <= age_s < 60
        at.db.execute("drop index idx_tracking_race_id")
        partly, again = at.here(["migrate", "--dry-run"], ["migrate", "--dry-run"])
        assert "idx_tracking_race_id" in partly.stdout
        assert "idx_tracking_race_timestamp" not in partly.stdout
        assert partly.stdout == again.stdout
        at.here(["migrate"])
        check_schema(at)
        done = at.here(["migrate", "--dry-run"])[0]
        assert "idx_tracking" not in done.stdout
        # No rights needed where nothing is missing.
        at.db.execute("drop role if exists contract_reader")
        at.db.execute("create role contract_reader login password 'x'")
        try:
            at.db.execute("grant select, insert on all tables in schema public to contract_reader")
            at.keys = {"postgres": {"username": "contract_reader", "password": "x"}}
            at.settings()
            at.here(["migrate"])
        finally:
            at.db.execute("drop owned by contract_reader")
            at.db.execute("drop role contract_reader")
        at.keys = {"postgres": {"database": "there_is_none"}}
        at.settings()
        assert "there_is_none" in at.here(["migrate"], check=1)[0].stderr


# --- Redis -----------------------------------------------------------------------------------------------------


def test_the_cache_holds_live_positions_exactly_as_written(site: tuple[Station, Running]) -> None:
    at, running = site
    check_schema(at)
    began = now_ms()
    first = fix("cache", "Zoë", "2026-06-01T08:00:00.1239Z", latitude=-7.9456, longitude=112.61450004, status="stopped")
    late = fix("cache", "P2", "2026-05-01T08:00:00Z", latitude=0, longitude=-1)
    at.send(first, late)
    until(lambda: cached(at, "cache", "P2") and cached(at, "cache", "Zoë"))
    value = cached(at, "cache", "Zoë")
    received = value.pop("receivedAt")
    assert value == {
        "participantId": "Zoë",
        "raceId": "cache",
        "latitude": -7.9456,
        "longitude": 112.6145,
        "timestamp": "2026-06-01T08:00:00.123Z",
        "status": "stopped",
    }
    assert utc(unix_ms(received)) == received
    assert began <= unix_ms(received) <= now_ms()
    assert seen(at, "cache") == {"Zoë": unix_ms("2026-06-01T08:00:00.123Z"), "P2": unix_ms(late["timestamp"])}
    assert isinstance(cached(at, "cache", "P2")["longitude"], int | float)
    for key in ("race:cache:participant:Zoë:last", "race:cache:participant:P2:last", "race:cache:seen"):
        assert 86_390 <= at.cache.ttl(key) <= 86_399, key
    # The same as everybody else is told, without `stale`.
    told = running.live("cache")["Zoë"]
    assert {key: told[key] for key in told if key != "stale"} == value | {"receivedAt": received}
    assert snapshot(running, "cache")["cache"]["Zoë"] == told


def test_the_cache_goes_only_forward(site: tuple[Station, Running]) -> None:
    at, _ = site
    times = [f"2026-06-01T08:00:{second:02}Z" for second in (30, 10, 40, 20, 39)]
    at.send(*(fix("forward", "P1", moment, latitude=n + 1) for n, moment in enumerate(times)))
    at.send(fix("forward", "end"))
    until(lambda: cached(at, "forward", "end"))
    assert cached(at, "forward", "P1")["timestamp"] == "2026-06-01T08:00:40.000Z"
    # Another node wrote a newer one, of a participant that this one has never seen.
    newer = cached(at, "forward", "end") | {"participantId": "P9", "timestamp": "2026-06-01T09:00:00.000Z"}
    at.cache.set("race:forward:participant:P9:last", json.dumps(newer), ex=1000)
    at.cache.zadd("race:forward:seen", {"P9": unix_ms(newer["timestamp"])})
    at.send(fix("forward", "P9"), fix("forward", "end", "2026-06-01T08:00:01Z"))
    until(lambda: cached(at, "forward", "end")["timestamp"] == "2026-06-01T08:00:01.000Z")
    assert cached(at, "forward", "P9") == newer
    assert seen(at, "forward")["P9"] == unix_ms(newer["timestamp"])


def test_rubbish_in_the_cache_is_no_loss(site: tuple[Station, Running]) -> None:
    at, running = site
    moment = unix_ms("2026-06-01T07:00:00Z")
    rubbish = {"a": b"\xff\x00", "b": b"", "c": b"[]", "d": b'{"timestamp":5}', "e": b'{"participantId":"x"}'}
    for name, value in rubbish.items():
        at.cache.set(last("rubbish", name), value)
        at.cache.zadd("race:rubbish:seen", {name: moment})
    sent = [fix("rubbish", name) for name in rubbish]
    at.send(*sent)
    running.settled(at.published)
    until(lambda: set(running.live("rubbish")) == set(rubbish))
    assert at.rows("rubbish") == sorted(map(row, sent))
    until(lambda: all(at.cache.strlen(last("rubbish", name)) > 100 for name in rubbish), "written over")
    assert all(cached(at, "rubbish", name)["participantId"] == name for name in rubbish)


def test_one_race_that_cannot_be_written_keeps_no_other_one_back(site: tuple[Station, Running]) -> None:
    at, running = site
    at.cache.set("race:wrongtype:seen", "not a sorted set")
    try:
        at.send(fix("wrongtype"), fix("beside-0"))
        until(lambda: set(running.live("wrongtype")) == {"P1"})
        at.send(*(fix(race, f"P{n}") for n in range(2, 12) for race in ("wrongtype", f"beside-{n}")))
        until(lambda: len(running.live("wrongtype")) == 11)
        others = [(f"beside-{n}", f"P{n}" if n else "P1") for n in (0, *range(2, 12))]
        until(lambda: all(cached(at, *other) for other in others), "the other races, in the cache", 5)
    finally:
        at.cache.delete("race:wrongtype:seen")
    at.send(fix("wrongtype", "P12"))
    until(lambda: "P12" in seen(at, "wrongtype"))


# --- the order of live positions -------------------------------------------------------------------------------


def test_at_one_moment_status_then_id_decides_everywhere(at: Station) -> None:
    at.cache.flushall()
    moment = utc(now_ms() - 5000)

    def of(race: str) -> list[dict[str, Any]]:
        same = [fix(race, "P1", moment, status=status, latitude=n + 1) for status in STATUSES for n in range(3)]
        alike = [fix(race, "P2", moment, status="stopped", latitude=n + 1) for n in range(8)]
        return same + alike

    def wins(race: str) -> dict[str, float]:
        return {
            name: float(
                max(
                    (one for one in of(race) if one["participant_id"] == name),
                    key=lambda one: (STATUSES.index(one["status"]), fix_id(one)),
                )["latitude"]
            )
            for name in ("P1", "P2")
        }

    def live(positions: dict[str, dict[str, Any]]) -> dict[str, float]:
        return {name: float(position["latitude"]) for name, position in positions.items()}

    races = ("rising", "falling", "alone")
    with at.daemon() as running:
        at.send(*of("rising"))
        at.send(*reversed(of("falling")))
        for one in sorted(of("alone"), key=fix_id):
            at.send(one)
        running.settled(at.published)
        told = snapshot(running, *races)
        for race in races:
            assert live(told[race]) == wins(race)
            until(lambda race=race: float(cached(at, race, "P2").get("latitude", 0)) == wins(race)["P2"])  # type: ignore[misc]
            until(lambda race=race: float(cached(at, race, "P1").get("latitude", 0)) == wins(race)["P1"])  # type: ignore[misc]
            assert cached(at, race, "P1")["status"] == "disqualified"
        assert running.stop() == 0
    at.cache.flushall()
    with at.daemon() as running:
        told = snapshot(running, *races)
        for race in races:
            assert live(told[race]) == wins(race), "from PostgreSQL alone"
        # What is smaller at the same moment stays history.
        at.send(fix("rising", "P1", moment, status="finished", latitude=40), fix("rising", "P3", moment))
        until(lambda: "P3" in running.live("rising"))
        assert live(running.live("rising"))["P1"] == wins("rising")["P1"]
        assert running.stop() == 0


# --- restarts of the daemon ------------------------------------------------------------------------------------


def test_a_restart_rebuilds_from_postgresql_alone_or_from_redis(at: Station) -> None:
    at.cache.flushall()
    now = now_ms()
    with at.daemon() as running:
        at.send(fix("back", "P1", now - 9000), fix("back", "P1", now - 5000), fix("back", "P2", now - 50_000_000))
        at.send(fix("back", "P1", now + 400_000, latitude=3), fix("back", "P3", now + 400_000))
        at.send(fix("back", "P1", now + 200_000, latitude=4), fix("back", "P4", now + 400_000), fix("back", "P4", now))
        running.settled(at.published)
        until(lambda: set(seen(at, "back")) == {"P1", "P2", "P4"})
        before = snapshot(running, "back")["back"]
        assert {name: position["timestamp"] for name, position in before.items()} == {
            "P1": utc(now + 200_000),
            "P2": utc(now - 50_000_000),
            "P4": utc(now),
        }
        values = {key: at.cache.get(key) for key in at.cache.scan_iter("race:back:participant:*")}
        assert running.stop() == 0

    at.cache.flushall()
    with at.daemon() as running:
        assert snapshot(running, "back")["back"] == before, "PostgreSQL alone; what was ahead of its time is never live"
        at.send(fix("back", "P2", now))
        until(lambda: cached(at, "back", "P2").get("timestamp") == utc(now))
        assert running.stop() == 0

    # Only Redis knows of this one: another node took it, and PostgreSQL has not got it yet.
    newer = json.loads(str(values["race:back:participant:P1:last"])) | {"timestamp": utc(now + 250_000), "latitude": 5}
    at.cache.flushall()
    for key, value in values.items():
        at.cache.set(key, str(value), ex=1000)
    at.cache.set("race:back:participant:P1:last", json.dumps(newer), ex=1000)
    at.cache.zadd("race:back:seen", {"P1": now + 250_000, "P2": now - 50_000_000, "P4": now})
    with at.daemon() as running:
        told = running.live("back")
        assert told["P1"]["timestamp"] == utc(now + 250_000), "the greatest of both"
        assert told["P1"]["latitude"] == 5
        assert told["P2"]["timestamp"] == utc(now), "PostgreSQL is newer than a stale cache"
        assert set(told) == {"P1", "P2", "P4"}
        at.send(fix("back", "P1", now + 240_000), fix("back", "end"))
        until(lambda: cached(at, "back", "end"))
        assert cached(at, "back", "P1")["timestamp"] == utc(now + 250_000)
        assert running.stop() == 0


def test_kill_9_loses_nothing_and_the_session_survives(at: Station) -> None:
    sent = [fix("killed", f"P{n}") for n in range(3000)]
    with at.daemon() as running:
        at.send(*sent[:1000])
        until(lambda: running.metrics()["tracking_fixes_committed_total"] > 0)
        running.kill()
    at.send(*sent[1000:2000])  # nobody is there
    with at.daemon() as running:
        at.send(*sent[2000:])
        until(lambda: len(at.rows("killed")) == len(sent))
        at.published = 0
        metrics = running.settled(0)
        assert at.rows("killed") == sorted(map(row, sent))
        assert metrics["tracking_mqtt_session_lost_total"] == 0
        assert conserved(metrics)
        assert running.stop(signal.SIGINT) == 0
