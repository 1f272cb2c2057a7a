"""`check` against brokers that are there, weak, wrong, silent or absent."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import attrs
import pytest

from actors.commands.check_servers import Finding
from actors.settings.load import Secret, Settings
from tests.commands.check_settings import about as about
from tests.commands.check_settings import impatient as impatient
from tests.commands.check_settings import levels, scripted, until_closed, with_mqtt
from tests.commands.check_settings import settings as settings
from tests.kit.servers import free_port, start_mosquitto
from tests.mqtt.mqtt_listener import listening

pytestmark = pytest.mark.live


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_that_answers(settings: Settings, tmp_path: Path, protocol: str) -> None:
    with start_mosquitto(tmp_path) as broker:
        [found] = about(with_mqtt(settings, broker.port, protocol=protocol), "broker")
    assert found.level == "ok"
    assert found.text.startswith(f"127.0.0.1:{broker.port} answers, mosquitto version ")
    assert found.text.endswith(f", MQTT {protocol}")


def test_the_daemon_at_the_broker_is_not_thrown_out(settings: Settings, tmp_path: Path) -> None:
    log = "log_dest file " + os.fspath(tmp_path / "clients.log")
    with start_mosquitto(tmp_path, log, "log_type all") as broker:
        about(with_mqtt(settings, broker.port), "broker")
    clients = (tmp_path / "clients.log").read_text()
    assert f" as tracking-backend-check-{os.getpid()} " in clients
    assert " as tracking-backend " not in clients


def test_a_broker_that_wants_a_password(settings: Settings, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "me", "hunter2"], check=True, capture_output=True)
    os.chmod(passwords, 0o644)
    with start_mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        for login in ({}, {"username": "me", "password": Secret("other")}):
            [found] = about(with_mqtt(settings, broker.port, **login), "broker")
            assert found == Finding("FAILED", "broker", f"127.0.0.1:{broker.port}: refused: Not authorized")
        assert levels(with_mqtt(settings, broker.port, username="me", password=Secret("hunter2")), "broker") == ["ok"]


def test_a_broker_that_allows_less(settings: Settings, tmp_path: Path) -> None:
    options = ("max_qos 0", "persistent_client_expiration 1h")
    with start_mosquitto(tmp_path, *options) as broker:
        found = about(with_mqtt(settings, broker.port), "broker")
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


def test_a_broker_that_has_dropped_messages(settings: Settings, tmp_path: Path) -> None:
    with start_mosquitto(tmp_path, "max_queued_messages 5", "sys_interval 1") as broker:
        assert levels(with_mqtt(settings, broker.port), "broker") == ["ok"]
        connection = ["-p", str(broker.port), "-t", "t", "-q", "1"]
        subprocess.run(["mosquitto_sub", *connection, "-c", "-i", "away", "-E"], check=True)
        subprocess.run(["mosquitto_pub", *connection, "-l"], input=b"x\n" * 20, check=True)
        with listening(broker.port, "$SYS/broker/publish/messages/dropped") as counted:
            deadline = time.monotonic() + 30
            while not counted.messages or counted.messages[-1][1] != b"15":
                assert time.monotonic() < deadline
                time.sleep(0.05)  # the broker counts once a second
        [fine, found] = about(with_mqtt(settings, broker.port), "broker")
    assert fine.level == "ok"
    assert found == Finding(
        "warning",
        "broker",
        "has dropped 15 messages, of all its clients, since its start: queues were full; "
        "raise max_queued_messages in mosquitto.conf",
    )


def test_a_broker_with_tls(settings: Settings, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    os.chmod(key, 0o644)
    with start_mosquitto(tmp_path, f"certfile {cert}", f"keyfile {key}") as broker:
        url = f"mqtts://localhost:{broker.port}"
        tls = with_mqtt(settings, broker.port, broker_url=url, ca_file=cert)
        assert levels(tls, "broker") == ["ok"]
        mine = with_mqtt(tls, broker.port, broker_url=url, cert_file=cert, key_file=key)
        assert levels(mine, "broker") == ["ok"]
        for wrong in ({"ca_file": None}, {"broker_url": f"mqtts://127.0.0.1:{broker.port}"}, {"ca_file": key}):
            [found] = about(with_mqtt(tls, broker.port, **{"broker_url": url, **wrong}), "broker")
            assert found.level == "FAILED"
            assert "cannot be reached: " in found.text


def old_broker(server: socket.socket, lacks: str) -> None:
    """Answers to MQTT 3.1.1 only, as long as the server is open."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            level = connection.recv(4096)[8]
            if level == 4 or lacks == "says so":
                connection.sendall(b"\x20\x02\x00" + (b"\x00" if level == 4 else b"\x01"))
            if level == 4:
                until_closed(connection)


@pytest.mark.parametrize("lacks", ["says so", "closes"])
def test_a_broker_without_mqtt_5(settings: Settings, lacks: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=old_broker, args=(server, lacks))
        thread.start()
        port = server.getsockname()[1]
        try:
            found = about(with_mqtt(settings, port), "broker")
            assert [finding.level for finding in found] == ["ok", "warning"]
            assert found[0].text == f"127.0.0.1:{port} answers, version unknown, MQTT 3.1.1"
            assert found[1].text.startswith("has no MQTT 5, so it is not told session_expiry_s and receive_maximum")
            [found_5] = about(with_mqtt(settings, port, protocol="5"), "broker")
            assert found_5.level == "FAILED"
            assert found_5.text.endswith(", but one to MQTT 3.1.1: set [mqtt] protocol = auto or 3.1.1")
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(20)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "ends the connection at a subscription to tracking/+/position: not allowed?"),
        (b"\x90\x03\x00\x01\x80", "refuses a subscription to tracking/+/position: Unspecified error"),
    ],
)
def test_a_broker_that_does_not_let_us_subscribe(settings: Settings, answer: bytes, text: str) -> None:
    """The first connection asks for the broker's version only."""

    def serve(server: socket.socket) -> None:
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x20\x02\x00\x00")
                asked = connection.recv(4096)
                if b"$SYS" in asked:
                    until_closed(connection)
                elif answer:
                    connection.sendall(answer)
                    until_closed(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        found = about(with_mqtt(settings, server.getsockname()[1], protocol="3.1.1"), "broker")
        thread.join(20)
    assert [finding.level for finding in found] == ["ok", "FAILED"]
    assert found[1].text == text


def test_nodes_of_which_one_is_away(settings: Settings, tmp_path: Path) -> None:
    with start_mosquitto(tmp_path) as broker:
        url = f"mqtt://127.0.0.1:{(away := free_port())},mqtt://127.0.0.1:{broker.port}"
        found = about(with_mqtt(settings, broker.port, broker_url=url), "broker")
    assert [finding.level for finding in found] == ["warning", "ok"]
    assert found[0].text.startswith(f"127.0.0.1:{away} cannot be reached: ")
    found = about(with_mqtt(settings, broker.port, broker_url=url), "broker")
    assert [finding.level for finding in found] == ["FAILED", "FAILED"]


@pytest.mark.usefixtures("impatient")
def test_a_silent_and_an_absent_broker(settings: Settings) -> None:
    with scripted(until_closed) as port:
        [found] = about(with_mqtt(settings, port), "broker")
    assert found.level == "FAILED"
    assert "no answer to CONNECT, neither of MQTT 5 nor of 3.1.1" in found.text
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
