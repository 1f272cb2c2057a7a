"""`check` of a node that shares: whether the broker does."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from actors.commands.check_servers import Finding
from actors.embedded.nats import find_binary
from actors.mqtt import probe
from actors.settings.load import ClusterSettings, Settings
from tests.commands.check_settings import about as about
from tests.commands.check_settings import settings as settings
from tests.commands.check_settings import with_mqtt
from tests.kit.servers import Server, free_port, running, start_mosquitto

pytestmark = pytest.mark.live

SHARES = Finding("ok", "broker", "delivers what is shared, as [cluster] ingest = shared needs it")
ACL = "topic readwrite tracking/#\ntopic read $SYS/#\n"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PLAIN_S", 0.5)
    monkeypatch.setattr(probe, "SHARED_S", 0.5)


def shared(settings: Settings, port: int, protocol: str = "auto", **more: str) -> Settings:
    cluster = ClusterSettings(ingest="shared", relay=True)
    return attrs.evolve(with_mqtt(settings, port, protocol=protocol, client_id="n1", **more), cluster=cluster)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_mosquitto(settings: Settings, tmp_path: Path, protocol: str) -> None:
    with start_mosquitto(tmp_path) as broker:
        assert about(shared(settings, broker.port, protocol), "broker")[-1] == SHARES
        two = f"mqtt://127.0.0.1:{free_port()},mqtt://127.0.0.1:{broker.port}"
        assert about(shared(settings, broker.port, protocol, broker_url=two), "broker")[-1] == SHARES
        assert SHARES not in about(with_mqtt(settings, broker.port), "broker")  # nobody asked


def test_mosquitto_without_the_right(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text(ACL)
    with start_mosquitto(tmp_path, f"acl_file {tmp_path}/acl") as broker:
        node = shared(settings, broker.port)
        found = about(node, "broker")[-1]
        assert found.level == "FAILED"
        assert "let this user read and write tracking-probe/#" in found.text
        settings.app.data_dir.mkdir()
        (settings.app.data_dir / "mqtt_topics.json").write_text('{"n1":["$share/tracking/tracking/+/position"]}')
        found = about(node, "broker")[-1]
        assert found.level == "warning"
        assert found.text.endswith("; it did share when this node began")
    (tmp_path / "acl").write_text(ACL + "topic readwrite tracking-probe/#\n")
    with start_mosquitto(tmp_path, f"acl_file {tmp_path}/acl") as broker:
        assert about(shared(settings, broker.port), "broker")[-1] == SHARES


def test_nats_grants_and_does_not_deliver(settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "conf").write_text(
        f"server_name: n\nlisten: 127.0.0.1:-1\njetstream {{ store_dir: {tmp_path} }}\n"
        f"mqtt {{ listen: 127.0.0.1:{port} }}\n"
    )
    with running(Server(tmp_path, port, [str(find_binary()), "-c", str(tmp_path / "conf")])):
        found = about(shared(settings, port), "broker")[-1]
    assert found.level == "FAILED"
    assert found.text.startswith("grants a shared subscription and delivers nothing to it: [cluster] ingest = shared ")


def test_no_broker(settings: Settings) -> None:
    [found] = about(shared(settings, free_port()), "broker")
    assert (found.level, "cannot be reached" in found.text) == ("FAILED", True)
