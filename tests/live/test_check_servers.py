"""`check` against servers that are there, weak, wrong, silent or absent."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import attrs
import psycopg
import pytest
import redis

from actors.commands import check_servers
from actors.commands.check_servers import Finding
from actors.drivers.addresses import PostgresAddress, RedisAddress
from actors.settings import Secret, Settings
from tests.live.check_settings import about as about
from tests.live.check_settings import levels, scripted, until_closed, with_mqtt, with_postgres, with_redis
from tests.live.check_settings import settings as settings
from tests.live.mqtt_desk import free_port
from tests.live.mqtt_listener import plain_mosquitto

pytestmark = pytest.mark.live


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is found out soon."""
    monkeypatch.setattr(check_servers, "ANSWER_S", 1)
    monkeypatch.setattr(check_servers, "CONNECT_S", 2)  # libpq takes nothing shorter


# --- broker ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_that_answers(settings: Settings, tmp_path: Path, protocol: str) -> None:
    with plain_mosquitto(tmp_path) as port:
        [found] = about(with_mqtt(settings, port, protocol=protocol), "broker")
    assert found.level == "ok"
    assert found.text.startswith(f"127.0.0.1:{port} answers, mosquitto version ")
    assert found.text.endswith(f", MQTT {protocol}")


def test_the_daemon_at_the_broker_is_not_thrown_out(settings: Settings, tmp_path: Path) -> None:
    log = "log_dest file " + os.fspath(tmp_path / "clients.log")
    with plain_mosquitto(tmp_path, "allow_anonymous true", log, "log_type all") as port:
        about(with_mqtt(settings, port), "broker")
    clients = (tmp_path / "clients.log").read_text()
    assert f" as tracking-backend-check-{os.getpid()} " in clients
    assert " as tracking-backend " not in clients


def test_a_broker_that_wants_a_password(settings: Settings, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "me", "hunter2"], check=True, capture_output=True)
    os.chmod(passwords, 0o644)
    with plain_mosquitto(tmp_path, f"password_file {passwords}") as port:
        for login in ({}, {"username": "me", "password": Secret("other")}):
            [found] = about(with_mqtt(settings, port, **login), "broker")
            assert found == Finding("FAILED", "broker", f"127.0.0.1:{port}: refused: Not authorized")
        assert levels(with_mqtt(settings, port, username="me", password=Secret("hunter2")), "broker") == ["ok"]


def test_a_broker_that_allows_less(settings: Settings, tmp_path: Path) -> None:
    options = ("allow_anonymous true", "max_qos 0", "persistent_client_expiration 1h")
    with plain_mosquitto(tmp_path, *options) as port:
        found = about(with_mqtt(settings, port), "broker")
    assert [finding.level for finding in found[:2]] == ["ok", "FAILED"]
    assert found[1].text == "allows QoS 0 at most, [mqtt] qos is 1"


def test_a_broker_that_keeps_sessions_for_less(settings: Settings) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"\x20\x08\x00\x00\x05\x11\x00\x00\x00\x3c")  # CONNACK, session expiry 60 s
        until_closed(connection)

    with scripted(answer) as port:
        found = about(with_mqtt(settings, port), "broker")
    assert [finding.level for finding in found] == ["ok", "warning"]
    assert "version unknown" in found[0].text
    assert found[1].text == "keeps a session for 60 s only, [mqtt] session_expiry_s is 86400"


def test_a_broker_with_tls(settings: Settings, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    os.chmod(key, 0o644)
    with plain_mosquitto(tmp_path, "allow_anonymous true", f"certfile {cert}", f"keyfile {key}") as port:
        tls = with_mqtt(settings, port, broker_url=f"mqtts://localhost:{port}", ca_file=cert)
        assert levels(tls, "broker") == ["ok"]
        mine = with_mqtt(tls, port, broker_url=f"mqtts://localhost:{port}", cert_file=cert, key_file=key)
        assert levels(mine, "broker") == ["ok"]
        for wrong in ({"ca_file": None}, {"broker_url": f"mqtts://127.0.0.1:{port}"}, {"ca_file": key}):
            [found] = about(with_mqtt(tls, port, **{"broker_url": f"mqtts://localhost:{port}", **wrong}), "broker")
            assert found.level == "FAILED"
            assert "cannot be reached: " in found.text


@pytest.mark.usefixtures("impatient")
def test_a_silent_and_an_absent_broker(settings: Settings) -> None:
    with scripted(until_closed) as port:
        [found] = about(with_mqtt(settings, port), "broker")
    assert found.level == "FAILED"
    assert "no answer to CONNECT; does it know MQTT 5?" in found.text
    [found] = about(with_mqtt(settings, port), "broker")
    assert found.level == "FAILED"
    assert found.text == f"127.0.0.1:{port} cannot be reached: [Errno 111] Connection refused"


def test_a_broker_for_everybody(settings: Settings) -> None:
    mqtt = attrs.evolve(
        settings.mqtt, embedded_bind=f"0.0.0.0:{free_port()}", username="u", password=Secret("hunter2"), qos=0
    )
    found = about(attrs.evolve(settings, mqtt=mqtt), "broker")
    assert [finding.level for finding in found] == ["ok", "warning", "warning", "warning"]
    assert "without topic_identity" in found[1].text
    assert "in the clear" in found[2].text
    assert "qos is 0" in found[3].text
    assert not [finding for finding in found if "hunter2" in finding.text]
    safe = attrs.evolve(mqtt, topic_identity="participant_id", qos=1)
    assert levels(attrs.evolve(settings, mqtt=safe), "broker") == ["ok", "warning"]


# --- Redis -----------------------------------------------------------------------------------------------------


def test_redis(settings: Settings, redis_process: tuple[RedisAddress, int]) -> None:
    address, _ = redis_process
    good = with_redis(settings, address)
    [found] = about(good, "redis")
    assert found.level == "ok"
    assert found.text.startswith(f"{address.host}:{address.port}/0 answers, valkey ")
    [found] = about(with_redis(settings, address, password=Secret("hunter2")), "redis")
    assert found.level == "FAILED"
    assert "hunter2" not in found.text
    assert levels(with_redis(settings, address, port=free_port()), "redis") == ["FAILED"]
    assert levels(with_redis(settings, address, db=99), "redis") == ["FAILED"]


def test_weak_spots_of_redis(settings: Settings, redis_process: tuple[RedisAddress, int]) -> None:
    address, _ = redis_process
    good = with_redis(settings, address)
    with redis.Redis(address.host, address.port, password=address.password.reveal(), protocol=2) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = about(good, "redis")
        finally:
            client.config_set("maxmemory-policy", "noeviction")
        assert [finding.level for finding in found] == ["ok", "warning"]
        assert "maxmemory-policy is allkeys-lru" in found[1].text
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        try:
            assert levels(good, "redis") == ["ok", "FAILED"]
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
        client.acl_setuser("poor", enabled=True, passwords=["+p"], commands=["+ping", "+hello", "+select", "+client"])
        try:
            assert levels(with_redis(settings, address, username="poor", password=Secret("p")), "redis") == [
                "ok",
                "warning",
            ]
        finally:
            client.acl_deluser("poor")


@pytest.mark.usefixtures("impatient")
def test_a_silent_redis(settings: Settings) -> None:
    with scripted(until_closed) as port:
        assert levels(with_redis(settings, RedisAddress(port=port)), "redis") == ["FAILED"]


# --- PostgreSQL ------------------------------------------------------------------------------------------------


def test_postgres(settings: Settings, postgres_server: PostgresAddress) -> None:
    found = about(with_postgres(settings, postgres_server), "postgres")
    assert found[0].level == "ok"
    assert "answers, version 1" in found[0].text
    # As tests/live/stores.py starts it, and nobody made tables in that database.
    assert [finding.level for finding in found[1:]] == ["warning", "warning"]
    assert "fsync is off" in found[1].text
    assert "no table tracking_positions yet" in found[2].text


def test_what_a_database_does_not_give(settings: Settings, postgres_server: PostgresAddress) -> None:
    for changes in (
        {"password": Secret("hunter2")},
        {"database": "nowhere"},
        {"host": "127.0.0.1", "port": free_port()},
    ):
        [found] = about(with_postgres(settings, postgres_server, **changes), "postgres")
        assert found.level == "FAILED"
        assert "hunter2" not in found.text
        assert "\n" not in found.text


def test_weak_spots_of_a_database(settings: Settings, postgres_server: PostgresAddress) -> None:
    name = f"weak_{os.getpid()}"
    login = {
        "host": postgres_server.host,
        "port": postgres_server.port,
        "user": postgres_server.user,
        "password": postgres_server.password.reveal(),
        "dbname": postgres_server.database,
    }
    with closing(psycopg.connect(**login, autocommit=True)) as admin:  # type: ignore[arg-type]  # of several types
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'".encode())
        try:
            for option in ("synchronous_commit = off", "default_transaction_read_only = on"):
                admin.execute(f"ALTER DATABASE {name} SET {option}".encode())
            found = about(with_postgres(settings, postgres_server, database=name), "postgres")
        finally:
            admin.execute(f"DROP DATABASE {name}".encode())
    texts = [f"{finding.level} {finding.text}" for finding in found]
    for wanted in (
        "warning synchronous_commit is off",
        "FAILED the encoding of the database is LATIN1",
        "FAILED is read",
    ):
        assert [text for text in texts if text.startswith(wanted)], texts


@pytest.mark.usefixtures("impatient")
def test_a_silent_postgres(settings: Settings) -> None:
    with scripted(until_closed) as port:
        address = PostgresAddress("127.0.0.1", port)
        assert levels(with_postgres(settings, address, sslmode="disable"), "postgres") == ["FAILED"]
