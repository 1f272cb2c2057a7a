"""`check` on embedded servers and on this machine."""

from __future__ import annotations

import argparse
import json
import os
import socket
import threading
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from actors.commands import check
from actors.commands.check_servers import Finding
from actors.embedded.addresses import uses_embedded
from actors.settings.load import ClusterSettings, Settings
from tests.commands.check_settings import about as about
from tests.commands.check_settings import levels, with_mqtt
from tests.commands.check_settings import settings as settings
from tests.kit.servers import free_port

pytestmark = pytest.mark.live


# --- embedded --------------------------------------------------------------------------------------------------


def test_embedded_servers_of_a_daemon_that_does_not_run(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(argparse.Namespace(), settings) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split() for line in lines] == [
        ["ok", "settings"],
        ["ok", "broker"],
        ["ok", "redis"],
        ["ok", "postgres"],
        ["ok", "descriptors"],
    ]
    assert all("the daemon is not running; it would start " in line for line in lines[1:4])
    assert not settings.app.data_dir.exists()


def test_embedded_servers_that_are_not_installed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("shutil.which", lambda *_args, **_kwargs: None)
    monkeypatch.setattr("actors.embedded.nats.find_binary", lambda: None)
    assert [levels(settings, name) for name in ("broker", "redis", "postgres")] == [
        ["FAILED"],
        ["FAILED"],
        ["FAILED"],
    ]


def test_what_nats_in_place_of_mosquitto_cannot_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_kwargs: None)
    found, weak = about(settings, "broker")
    assert (found.level, weak.level) == ("ok", "warning")
    assert "it would start nats" in found.text
    assert "mosquitto is not installed, so it is NATS: MQTT 3.1.1 only, no blank in a topic, no $share" in weak.text


def test_a_node_that_reads_nothing_needs_no_broker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    showing = attrs.evolve(settings, cluster=ClusterSettings(ingest="none", relay=True))
    monkeypatch.setattr("shutil.which", lambda *_args, **_kwargs: None)
    monkeypatch.setattr("actors.embedded.nats.find_binary", lambda: None)
    (found,) = about(showing, "broker")
    assert found == Finding("ok", "broker", "not needed: [cluster] ingest = none")
    assert uses_embedded(showing)
    own = attrs.evolve(showing.redis, host="redis"), attrs.evolve(showing.postgres, host="postgres")
    assert not uses_embedded(attrs.evolve(showing, redis=own[0], postgres=own[1]))


def test_a_taken_port_of_the_embedded_broker(settings: Settings) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        bound = attrs.evolve(settings, mqtt=attrs.evolve(settings.mqtt, embedded_bind=f"127.0.0.1:{port}"))
        assert levels(bound, "broker") == ["FAILED"]


def test_a_running_daemon_is_asked(settings: Settings) -> None:
    components = {name: {"up": name != "redis", "detail": f"{name}!"} for name in ("broker", "redis", "postgres")}
    settings.app.data_dir.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as control:
        control.bind(os.fspath(settings.app.data_dir / "control.sock"))
        control.listen()

        def answer() -> None:
            connection, _ = control.accept()
            with connection:
                connection.sendall(json.dumps({"components": components}).encode())

        thread = threading.Thread(target=answer)
        thread.start()
        found = {finding.subject: finding for finding in check.findings(settings)}
        thread.join(20)
    assert found["broker"] == Finding("ok", "broker", "embedded: broker!")
    assert found["redis"] == Finding("FAILED", "redis", "embedded: redis!")
    assert found["postgres"] == Finding("ok", "postgres", "embedded: postgres!")


# --- this machine ----------------------------------------------------------------------------------------------


def test_descriptors(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    many = attrs.evolve(settings, ws=attrs.evolve(settings.ws, max_connections=10_000, max_handshakes=500))
    for limits, level, text in (
        ((1024, 4096), "warning", "1024 open files, [ws] max_connections needs 10700: raise it with `ulimit -n 10700`"),
        ((1024, -1), "warning", "1024 open files"),
        ((10_700, 10_700), "ok", "10700 open files"),
        ((-1, -1), "ok", "unlimited open files"),
    ):
        monkeypatch.setattr("resource.getrlimit", lambda _which, limits=limits: limits)
        [found] = about(many, "descriptors")
        assert found.level == level
        assert found.text.startswith(text)
        assert ("hard limit is 4096" in found.text) == (limits == (1024, 4096))


def test_dashboards_for_everybody(settings: Settings) -> None:
    assert about(settings, "websocket") == []
    assert levels(attrs.evolve(settings, ws=attrs.evolve(settings.ws, auth="off")), "websocket") == ["warning"]
    public = attrs.evolve(settings, ws=attrs.evolve(settings.ws, host=("127.0.0.1", "0.0.0.0")))
    assert levels(public, "websocket") == ["warning"]
    assert levels(attrs.evolve(public, tls=attrs.evolve(public.tls, cert_file=Path("x"))), "websocket") == []


def test_one_failure_is_exit_code_1(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(argparse.Namespace(), with_mqtt(settings, free_port())) == 1
    assert "FAILED  broker: 127.0.0.1:" in capsys.readouterr().out
