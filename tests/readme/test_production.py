"""The production files of README.md work as they stand there, for names, paths and ports of the test."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psycopg

from actors.core.addresses import PostgresAddress, RedisAddress
from tests.kit import servers
from tests.kit.commands import run_commands
from tests.kit.daemon import started
from tests.kit.readme import block, payload
from tests.kit.servers import free_port, mosquitto
from tests.kit.station import conninfo
from tests.readme.production import Production, role_and_database


def test_the_production_files(
    tmp_path: Path, postgres_server: PostgresAddress, redis_process: tuple[RedisAddress, int]
) -> None:
    http_port, now_s = free_port(), int(time.time())
    site = Production(tmp_path, mosquitto(tmp_path, free_port()), free_port())
    site.write_broker()
    settings = site.write_settings(postgres_server.port, redis_process[0], http_port)
    at = ["--settings", str(settings)]
    with role_and_database(postgres_server) as login, servers.running(site.broker):
        run_commands([[*at, "check"]])
        with started(settings, http_port) as running:
            running.until_ready()
            with site.receipt() as receipt:
                site.track("tracking/P001/position", payload("P001", now_s, "R1"))
            assert (receipt["participant_id"], len(receipt["timestamps"])) == ("P001", 1)
            site.track("tracking/P002/position", payload("P002", now_s, "R1"))  # the broker refuses it
            site.track("tracking/P001/position", payload("P003", now_s, "R1"))  # we do
            site.track("tracking/P001/position", payload("P001", now_s + 1, "R1"))
            assert running.settled(3)["tracking_fixes_committed_total"] == 2
            (listed,) = run_commands([[*at, "rejections", "--json"]])
            assert [json.loads(line)["code"] for line in listed.stdout.splitlines()] == ["topic_mismatch"]
            assert running.stop() == 0
        with psycopg.connect(conninfo(login)) as connection:
            rows = connection.execute("select participant_id from tracking_positions").fetchall()
        assert rows == [("P001",), ("P001",)]


def test_the_broker_of_production_loses_nothing() -> None:
    lines = block("conf", "max_queued_messages").splitlines()
    assert {"max_queued_messages 1000000", "max_inflight_messages 10000", "autosave_interval 1"} <= set(lines)
