"""settings.ini and the environment: what is accepted, what is refused, and how it is said."""

from __future__ import annotations

import configparser
import os
import re
import socket
from pathlib import Path
from typing import Any

import attrs
import pytest

from actors.core.errors import SettingsError
from actors.settings.load import Settings, load
from actors.settings.table import KEYS, variable
from tests.settings.settings_files import Files
from tests.settings.settings_files import files as files

SHIPPED = Path(__file__).resolve().parents[2] / "settings.ini"


def value(settings: Settings, section: str, key: str) -> Any:
    return getattr(getattr(settings, section), key)


def test_the_shipped_file_has_every_key_with_its_default_and_one_comment() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(SHIPPED, "utf-8")
    shipped = {section: dict(parser.items(section)) for section in parser.sections()}
    assert shipped == {section: {key: row["default"] for key, row in rows.items()} for section, rows in KEYS.items()}
    lines = SHIPPED.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z_]+ =", line):
            assert lines[number - 1].startswith("# "), line
            assert not lines[number - 2].startswith("# "), line


def test_the_shipped_file_is_what_default_gives() -> None:
    shipped, default = load(SHIPPED, {}), Settings()
    assert shipped.app.data_dir == SHIPPED.parent / "var"
    assert default.app.data_dir == Path("var")
    assert attrs.evolve(shipped, app=attrs.evolve(shipped.app, data_dir=Path("var"))) == default


def test_defaults_of_the_contract(files: Files) -> None:
    found = files.load()
    assert (found.app.port, found.app.stale_data_threshold_ms, found.app.node_id) == (3000, 30000, socket.gethostname())
    assert (found.mqtt.broker_url, found.mqtt.topics, found.mqtt.qos) == ("embedded", ("tracking/+/position",), 1)
    assert (found.redis.tls, found.postgres.spool, found.ws.cors_origin) == (False, True, ("*",))
    assert found.ws.compression
    assert found.tls.cert_file is None
    assert found.supervisor.drain_timeout_s == 15


def test_every_key_is_overridden_by_the_file_and_by_its_variable(files: Files, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("x")
    others: dict[type, tuple[str, str]] = {int: ("2", "3"), bool: ("yes", "no"), Path: ("pem", str(tmp_path / "pem"))}
    texts = {
        ("mqtt", "qos"): ("0", "1"),
        ("app", "log_format"): ("json", "console"),
        ("app", "log_level"): ("debug", "error"),
        ("mqtt", "broker_url"): ("mqtts://a", "mqtts://b"),
        ("mqtt", "protocol"): ("3.1.1", "5"),
        ("mqtt", "topic_identity"): ("race_id", "participant_id"),
        ("mqtt", "topics"): ("a/+", "b/+"),
        ("mqtt", "embedded_bind"): ("127.0.0.1:1", "127.0.0.1:2"),
        ("postgres", "sslmode"): ("require", "disable"),
        ("ws", "path"): ("/a", "/b"),
        ("ws", "cors_origin"): ("http://a", "http://b"),
        ("ws", "host"): ("localhost", "::1"),
        ("ws", "auth"): ("off", "token"),
        ("ws", "auth_secret"): ("a" * 32, "b" * 32),
        ("ws", "outbox_bytes"): ("256", "257"),
        ("ws", "max_message_bytes"): ("64", "65"),
        ("page", "tile_url"): ("https://a/{z}/{x}/{y}", "http://b/{z}/{x}/{y}"),
        ("app", "data_dir"): ("one", "two"),
        ("supervisor", "backoff_max_ms"): ("100", "101"),
        ("cluster", "ingest"): ("none", "alone"),
        ("redis", "mode"): ("sentinel", "cluster"),
    }
    for section, rows in KEYS.items():
        for key in rows:
            kind = type(value(Settings(), section, key))
            by_file, by_variable = texts.get((section, key)) or others.get(
                Path if key.endswith("_file") else kind, ("one", "two")
            )
            text = f"[{section}]\n{key} = {by_file}\n" + "relay = yes\n" * (key == "ingest")
            for pair in (("cert_file", "key_file"), ("key_file", "cert_file")):
                text += f"{pair[1]} = pem\n" if key == pair[0] else ""
            if section == "mqtt" and key.endswith("_file"):
                text += "broker_url = mqtts://a\n"
            if (section, key) == ("redis", "mode"):
                text += "host = r\n"
            if key == "cors_credentials":
                text += "cors_origin = http://a\n"
            first = value(files.load(text), section, key)
            environ = {variable(section, key): by_variable}
            second = value(files.load(text, **environ), section, key)
            parse, anchor = rows[key]["parse"], isinstance(first, Path)
            assert first == (tmp_path / by_file if anchor else parse(by_file)), (section, key)
            assert second == (tmp_path / by_variable if anchor else parse(by_variable)), (section, key)


def test_variables_of_app_stand_without_the_section(files: Files) -> None:
    found = files.load("[app]\nport = 1\n[ws]\nport = 2", PORT="4000", APP_PORT="9", STALE_DATA_THRESHOLD_MS=" 200 ")
    assert (found.app.port, found.ws.port, found.app.stale_data_threshold_ms) == (4000, 2, 200)


def test_a_bad_variable_is_named(files: Files) -> None:
    assert files.problem("[mqtt]\nqos = 1", MQTT_QOS="three") == (
        "settings.ini [mqtt] qos: value 'three': (environment variable MQTT_QOS) "
        "not a whole number in plain digits; allowed is a whole number from 0 to 1"
    )
    assert "value '': (environment variable PORT)" in files.problem(PORT="")
    assert "value '\\udcff': (environment variable MQTT_USERNAME) not UTF-8" in files.problem(MQTT_USERNAME="\udcff")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "nan",
        "inf",
        "1e3",
        "1_883",
        "+5",
        "--5",
        "3.0",
        "0x10",
        "٣٠٠٠",
        "\uff13\uff10",
        "5 ; comment",
        "9" * 5000,
        "1 2",
    ],
)
def test_numbers_are_plain_ascii_digits(files: Files, text: str) -> None:
    assert "not a whole number in plain digits; allowed is a whole number from 1 to 65535" in files.problem(
        f"[app]\nport = {text}"
    )


@pytest.mark.parametrize("text", ["0", "65536", "-1", "-0"])
def test_ports_are_in_range(files: Files, text: str) -> None:
    expected = f"settings.ini [ws] port: value '{text}': out of range; allowed is a whole number from 1 to 65535"
    assert files.problem(f"[ws]\nport = {text}") == expected


def test_what_tests_and_small_machines_set_is_in_range(files: Files) -> None:
    files.load(
        "[app]\nstale_data_threshold_ms = 200\nrace_idle_ms = 1000\nmax_races = 1\n"
        "[mqtt]\nkeepalive_s = 2\nreceive_maximum = 1\nmax_payload_bytes = 100\nsession_expiry_s = 4294967295\n"
        "[postgres]\nbatch_rows = 1\nbatch_ms = 0\nqueue_rows = 1\nspool_after_s = 0\nspool_max_mb = 1\n"
        "[ws]\nbatch_window_ms = 0\noutbox_bytes = 256\nsend_timeout_ms = 1\nheartbeat_s = 1\nmax_connections = 1\n"
        "[supervisor]\nmax_restarts = 0\nrestart_window_s = 1\nbackoff_initial_ms = 1\nbackoff_max_ms = 1\n"
    )


def test_all_problems_come_at_once_one_a_line(files: Files) -> None:
    problems = files.problems(
        "[mqtt]\nqos = 2\nsession_expiry_s = 0\nprotocol = 4\n[redis]\ndb = -1\n[ws]\nauth = maybe\n[nowhere]\n"
        "[postgres]\nsslmode = x\nbatchrows = 5\nusername =\n",
        PORT="0",
    )
    places = [re.match(r"settings\.ini \[(\w+)\](?: (\w+): value '.*':|:) .*allowed", problem) for problem in problems]
    assert [place and place.groups() for place in places] == [
        ("nowhere", None),
        ("postgres", "batchrows"),
        ("app", "port"),
        ("mqtt", "qos"),
        ("mqtt", "protocol"),
        ("mqtt", "session_expiry_s"),
        ("redis", "db"),
        ("postgres", "username"),
        ("postgres", "sslmode"),
        ("ws", "auth"),
    ]
    assert all("\n" not in problem for problem in problems)


def test_unknown_keys_and_sections_come_with_a_hint(files: Files) -> None:
    assert "unknown key; did you mean broker_url? " in files.problem("[mqtt]\nbrokr_url = embedded")
    assert "unknown key; it belongs in [redis]; " in files.problem("[ws]\nttl_s = 5")
    assert "value '5': unknown key; allowed are cert_file, key_file" in files.problem("[tls]\nzzzz = 5")
    assert files.problem("[Mqttt]\nqos = 1").startswith(
        "settings.ini [Mqttt] qos: value '1': unknown section; did you mean [mqtt]? allowed are app, mqtt, redis,"
    )
    assert files.problem("[zzz]") == (
        "settings.ini [zzz]: unknown section; "
        "allowed are app, mqtt, redis, postgres, ws, page, tls, cluster, supervisor"
    )


def test_default_is_an_unknown_section_and_leaks_nothing(files: Files) -> None:
    assert files.problem("[DEFAULT]\nport = 4000").startswith(
        "settings.ini [DEFAULT] port: value '4000': unknown section; "
    )


def test_nothing_is_interpolated_and_a_bom_is_skipped(files: Files) -> None:
    found = files.load("\ufeff[mqtt]\nusername = %(client_id)s%\npassword = 50%%{x}$y")
    assert (found.mqtt.username, found.mqtt.password.reveal()) == ("%(client_id)s%", "50%%{x}$y")


def test_faults_of_form_are_problems_without_the_line(files: Files) -> None:
    problems = files.problems(
        "stray hunter2\n[mqtt]\nqos = 1\nqos = 0\nhunter2\n[ws]\nport = 1\n[mqtt]\npassword = a\npassword = hunter2\n"
        "  hunter2\nkeepalive_s = x\n[mqtt]\nkeepalive_s = y\n"
    )
    assert problems[:6] == [
        "settings.ini line 1: stands before the first [section]",
        "settings.ini [mqtt] qos: value '0': (line 4) stands twice in its section; allowed is once",
        "settings.ini line 5: is neither [section] nor key = value",
        "settings.ini line 8: section [mqtt] stands twice; allowed is once",
        "settings.ini [mqtt] password: value '***': (line 10) stands twice in its section; allowed is once",
        "settings.ini line 13: section [mqtt] stands twice; allowed is once",
    ]
    assert len(problems) == 7
    assert problems[6].startswith("settings.ini [mqtt] keepalive_s: value 'y': ")


def test_a_broken_header_is_one_problem(files: Files) -> None:
    said = "is neither [section] nor key = value"
    assert files.problem("[app]\nport = 1\n[mqtt\nqos = 1\n[ws]\nport = 1") == f"settings.ini line 3: {said}"
    assert files.problem("[app\nport = 1\nlog_level = x\n[ws]\nport = 1") == f"settings.ini line 1: {said}"
    first, second = files.problems("[app\nport = 1\n[mqtt\nqos = 7\n")
    assert (first, second) == (f"settings.ini line 1: {said}", f"settings.ini line 3: {said}")


def test_a_comment_behind_a_value(files: Files) -> None:
    assert files.problem("[app]\nstale_data_threshold_ms = 1000 ; a second").endswith(
        "; a comment needs a line of its own"
    )
    assert "comment" not in files.problem("[app]\nlog_level = x")


def test_what_continues_a_faulty_line_goes_with_it(files: Files) -> None:
    assert files.problem("[mqtt]\nusername = a\nusername = b\n  c") == (
        "settings.ini [mqtt] username: value 'b': (line 3) stands twice in its section; allowed is once"
    )


def test_a_file_of_something_else_ends_soon(files: Files) -> None:
    assert len(files.problems("[mqtt]\n" + "qos = 1\n" * 100_000)) < 30
    assert len(files.problems("no settings\n" * 1000)) < 30


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "settings.ini", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError) as caught:
            load(path, {})
        assert caught.value.problems == [f"{path.name}: cannot be read: {reason}: {path}"]
    (tmp_path / "latin.ini").write_bytes(b"[mqtt]\nusername = \xff\n")
    with pytest.raises(SettingsError, match=r"^latin\.ini: not UTF-8: invalid start byte at byte 18"):
        load(tmp_path / "latin.ini", {})


def test_paths_start_at_the_folder_of_the_file(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tls").mkdir()
    for name in ("a.pem", "b.pem"):
        (tmp_path / "tls" / name).write_text("x")
    text = "[app]\ndata_dir = ../elsewhere\n[tls]\ncert_file = tls/a.pem\nkey_file = tls/b.pem\n"
    expected = (tmp_path / "../elsewhere", tmp_path / "tls/a.pem", tmp_path / "tls/b.pem")
    for _ in range(2):
        found = files.load(text)
        assert (found.app.data_dir, found.tls.cert_file, found.tls.key_file) == expected
        monkeypatch.chdir("/")
    monkeypatch.chdir(tmp_path)
    assert load(Path("settings.ini"), {}).app.data_dir == tmp_path / "../elsewhere"
    assert files.load(text, DATA_DIR="/x").app.data_dir == Path("/x")


def test_a_link_to_the_settings_counts_where_it_stands(files: Files, tmp_path: Path) -> None:
    files.load("")
    (tmp_path / "here").mkdir()
    link = tmp_path / "here" / "settings.ini"
    os.symlink(tmp_path / "settings.ini", link)
    assert load(link, {}).app.data_dir == tmp_path / "here" / "var"


def test_the_name_of_the_node_may_be_part_of_the_client_id(files: Files) -> None:
    found = files.load("[app]\nnode_id = n1\n[mqtt]\nclient_id = tracking-{node_id}\n")
    assert found.mqtt.client_id == "tracking-n1"
    assert files.load("[app]\nnode_id = n1\n").mqtt.client_id == "tracking-backend"
