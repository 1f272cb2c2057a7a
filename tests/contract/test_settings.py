"""The contract of settings from outside: usage, settings.ini, the environment, and how the daemon ends."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.commands import run_here
from tests.kit.daemon import SUPERVISOR, Running, until
from tests.kit.expected import fix, now_ms
from tests.kit.servers import free_port
from tests.kit.station import station

pytestmark = pytest.mark.live

COMMANDS = ("run", "demo", "check", "migrate", "replay", "simulate", "token", "export", "rejections", "status")
OPTIONS = {
    "migrate": ("--dry-run", "--partition", "--since"),
    "replay": ("FILE", "--speed", "--race", "--participant", "--now"),
    "simulate": ("--participants", "--rate-hz", "--duration-s", "--race", "--seed"),
    "token": ("--race", "--ttl"),
    "export": ("RACE", "--format", "--output", "--participant", "--from", "--to"),
    "rejections": ("--race", "--code", "--limit", "--json"),
}


def test_help_works_everywhere_and_knows_every_option() -> None:
    top, *each = run_here([["--help"], *([command, "--help"] for command in COMMANDS)])
    assert "--settings" in top.stdout
    for command, done in zip(COMMANDS, each, strict=True):
        assert re.search(rf"^\s+{command}\b", top.stdout, re.MULTILINE)
        for option in OPTIONS.get(command, ()):
            assert option in done.stdout, (command, option)
        assert done.stderr == ""


def test_wrong_usage_is_2(tmp_path: Path) -> None:
    path = tmp_path / "settings.ini"
    path.write_text("")
    wrong = [
        ["--settings", str(tmp_path / "none.ini"), "check"],
        ["fly"],
        ["export"],
        ["export", "R", "--format", "xml"],
        ["export", "R", "--from", "yesterday"],
        ["replay"],
        ["replay", "file.txt"],
        ["replay", "x.jsonl", "--speed", "-1"],
        ["token", "--ttl", "soon"],
        ["token", "--ttl", "-8h"],
        ["rejections", "--code", "nonsense"],
        ["rejections", "--limit", "0"],
        ["simulate", "--participants", "0"],
        ["simulate", "--rate-hz", "x"],
        ["status", "--nonsense"],
    ]
    for done in run_here(
        [args if args[0] == "--settings" else ["--settings", str(path), *args] for args in wrong], check=2
    ):
        assert done.stdout == ""
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_every_problem_of_the_settings_at_once_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "settings.ini"
    path.write_text(
        """[app]
prot = 3000
stale_data_threshold_ms = 1_883
max_races = nan
log_level = loud
[mqtt]
qos = 2
session_expiry_s = 0
broker_url = http://x
receipt_topic = tracking/{participant_id}/position
topic_identity = both
topics = tracking/#
[redis]
tls = maybe
port = ٣٣
[postgres]
batch_rows = 0
spool = perhaps
[ws]
host = 0.0.0.0
auth = off
auth_secret = too short
[tls]
cert_file = there-is-none.pem
[supervisor]
max_restarts = -1
[mqqt]
qos = 1
"""
    )
    places = [
        ("app", "prot", "3000"),
        ("app", "stale_data_threshold_ms", "1_883"),
        ("app", "max_races", "nan"),
        ("app", "log_level", "loud"),
        ("mqtt", "qos", "2"),
        ("mqtt", "session_expiry_s", "0"),
        ("mqtt", "broker_url", "http://x"),
        ("mqtt", "topic_identity", "both"),
        ("redis", "tls", "maybe"),
        ("redis", "port", "٣٣"),
        ("postgres", "batch_rows", "0"),
        ("postgres", "spool", "perhaps"),
        ("ws", "auth", "off"),
        ("supervisor", "max_restarts", "-1"),
        ("mqqt", "qos", "1"),
    ]
    for done in run_here([["--settings", str(path), command] for command in ("run", "check", "migrate")], check=2):
        lines = done.stderr.splitlines()
        assert done.stdout == ""
        for section, key, value in places:
            start = f"settings.ini [{section}] {key}: value '{value}': "
            found = [line for line in lines if line.startswith(start)]
            assert len(found) == 1, (start, lines)
            assert len(found[0]) > len(start) + 5
        assert all(re.match(r"settings\.ini \[\w+\] \w+: value '.*': .+", line) for line in lines), lines
        assert "port" in next(line for line in lines if "] prot:" in line).partition("3000")[2], "a near-miss hint"
        assert "[mqtt]" in next(line for line in lines if "[mqqt]" in line), "a near-miss hint"
        assert any(line.startswith("settings.ini [mqtt] receipt_topic: ") for line in lines), lines
        assert any(line.startswith("settings.ini [tls] ") for line in lines), lines
        secret = next(line for line in lines if line.startswith("settings.ini [ws] auth_secret: "))
        assert "too short" not in secret
        assert "32" in secret
    assert [each.name for each in tmp_path.iterdir()] == ["settings.ini"], "nothing was started"


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("PORT", "0", "[app] port"),
        ("STALE_DATA_THRESHOLD_MS", "soon", "[app] stale_data_threshold_ms"),
        ("MQTT_BROKER_URL", "ftp://x", "[mqtt] broker_url"),
        ("REDIS_PORT", "70000", "[redis] port"),
    ],
)
def test_a_bad_environment_is_2_too(tmp_path: Path, name: str, value: str, place: str) -> None:
    path = tmp_path / "settings.ini"
    path.write_text("")
    (done,) = run_here([["--settings", str(path), "token"]], check=2, **{name: value})
    (line,) = done.stderr.splitlines()
    assert place in line or name in line
    assert f"'{value}'" in line


def test_the_shipped_file_holds_every_key_with_its_default() -> None:
    """Every key and its default, written down by hand: who has set one may rely on it."""
    keys = """app port=3000 stale_data_threshold_ms=30000 max_clock_skew_ms=300000 max_races=10000 race_idle_ms=3600000
        data_dir=var log_format=console log_level=info node_id=
        mqtt broker_url=embedded username= password= client_id=tracking-backend topics=tracking/+/position qos=1
        protocol=auto session_expiry_s=86400 receive_maximum=10000 keepalive_s=15 max_payload_bytes=262144
        receipt_topic= topic_identity=none ca_file= cert_file= key_file= embedded_bind=127.0.0.1:1883
        redis host=embedded port=6379 username= password= db=0 tls=no mode=single sentinel_service=mymaster
        sentinel_username= sentinel_password= ttl_s=604800 flush_ms=50
        postgres host=embedded port=5432 username=postgres password= database=tracking sslmode=prefer batch_rows=1000
        batch_ms=100 lock_host= queue_rows=50000 spool=yes spool_after_s=3 spool_max_mb=1024
        ws host=127.0.0.1 port=3000 path=/tracking cors_origin=* cors_credentials=no auth=token auth_secret=
        batch_window_ms=100 compression=yes outbox_bytes=1048576 send_timeout_ms=10000 heartbeat_s=20
        max_connections=10000 max_handshakes=500 max_subscriptions=100 max_message_bytes=4096
        max_requests_per_s=50 handshake_timeout_s=5
        page tile_url= tile_max_zoom=19
        tls cert_file= key_file=
        cluster ingest=alone shared_group=tracking relay=no
        supervisor max_restarts=5 restart_window_s=30 backoff_initial_ms=100 backoff_max_ms=10000 drain_timeout_s=15"""
    expected, section = [], ""
    for word in keys.split():
        key, equals, value = word.partition("=")
        if equals:
            expected.append((section, key, value))
        else:
            section = word
    found, comments = [], 0
    _, _, keys = Path(SUPERVISOR).with_name("settings.ini").read_text().partition("\n[")
    for line in f"[{keys}".splitlines():
        key, equals, value = line.partition("=")
        if line.startswith("["):
            section = line.strip("[]")
        elif line.startswith("#"):
            comments += 1
        elif equals:
            found.append((section, key.strip(), value.strip()))
    assert found == expected
    assert comments == len(expected), "one comment a key"


def test_the_environment_overrides_the_file_and_signals_end_it_with_0(
    tmp_path: Path, postgres_server: PostgresAddress
) -> None:
    with station(tmp_path, postgres_server) as at:
        secret = tmp_path / "password"
        secret.write_text(at.postgres.password.reveal() + "\n")
        other = free_port()
        at.keys = {
            "mqtt": {"broker_url": "mqtt://127.0.0.1:1"},
            "redis": {"host": "203.0.113.1"},
            "postgres": {"password": ""},
        }
        environment = {
            "PORT": str(other),
            "MQTT_BROKER_URL": f"mqtt://127.0.0.1:{at.broker.port}",
            "REDIS_HOST": "127.0.0.1",
            "STALE_DATA_THRESHOLD_MS": "600000",
            "POSTGRES_PASSWORD_FILE": str(secret),
        }
        with at.daemon(environment) as running:
            at.send(fix("env", "P1", now_ms() - 300_000), fix("env", "P2", now_ms() - 700_000))
            seen = running.settled(2)
            assert seen["tracking_fixes_late_total"] == 1
            until(lambda: len(running.live("env")) == 2)
            assert {p: position["stale"] for p, position in running.live("env").items()} == {"P1": False, "P2": True}
            until(lambda: at.cache.exists("race:env:seen"))
            assert Running(at.port, running.process, running.log_file).live("env").keys() == {"P1", "P2"}, (
                "[ws] port stays, and both do the same"
            )
            assert (tmp_path / "var").is_dir(), "a relative data_dir starts at the folder of the file"
            running.process.send_signal(signal.SIGHUP)
            assert running.stop(signal.SIGINT) == 0
        (log,) = re.findall(r".*restart is needed.*|.*SIGHUP.*", running.log) or [""]
        assert log, "SIGHUP says something and changes nothing"
        assert at.postgres.password.reveal() not in running.log
