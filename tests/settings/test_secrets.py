"""Passwords and auth_secret: where they come from, and that nothing shows them."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from actors.settings.load import Secret, Settings
from actors.settings.table import KEYS, is_secret
from tests.settings.settings_files import Files
from tests.settings.settings_files import files as files


def test_secrets_come_from_files_too(files: Files, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("from file \r\n")
    (tmp_path / "two").write_bytes(b"s" * 32 + b"\n")
    text = "[mqtt]\nusername = u\npassword =\npassword_file = one\n[ws]\nauth_secret_file = two\n"
    found = files.load(text, POSTGRES_PASSWORD_FILE=str(tmp_path / "one"))
    assert found.mqtt.password.reveal() == found.postgres.password.reveal() == "from file "
    assert found.ws.auth_secret.reveal() == "s" * 32
    assert files.load(text, MQTT_PASSWORD="p").mqtt.password.reveal() == "p"
    assert files.load("[mqtt]\npassword = p", MQTT_PASSWORD_FILE="one").mqtt.password.reveal() == "from file "
    assert files.load("[mqtt]\npassword = p\npassword_file =").mqtt.password.reveal() == "p"


def test_troubles_with_secret_files(files: Files, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "short").write_text("hunter2")
    (tmp_path / "two lines").write_text("hunter2\nhunter2\n")
    start = "settings.ini [redis] password_file: value"
    assert files.problem("[redis]\npassword_file = gone") == (
        f"{start} 'gone': {tmp_path}/gone cannot be read: No such file or directory; "
        "allowed is a file this user may read"
    )
    assert files.problem("", REDIS_PASSWORD_FILE="gone").startswith(
        f"{start} 'gone': (environment variable REDIS_PASSWORD_FILE) "
    )
    assert "its file is empty or too long" in files.problem("[redis]\npassword_file = empty")
    assert "its file is empty or too long" in files.problem("[redis]\npassword_file = /dev/zero")
    assert "its file is not UTF-8" in files.problem("[redis]\npassword_file = binary")
    assert files.problem("[redis]\npassword_file = two lines").startswith(f"{start} '***': holds a line break")
    assert files.problem("[ws]\nauth_secret_file = short").startswith(
        "settings.ini [ws] auth_secret_file: value '***': only 7 bytes long; "
    )
    assert files.problem("[redis]\npassword = hunter2\npassword_file = short") == (
        "settings.ini [redis] password: value '***': given beside password_file; allowed is one of the two"
    )


def test_no_problem_shows_a_secret(files: Files) -> None:
    problems = files.problems(
        "[mqtt]\nbroker_url = mqtt://me:hunter2@host\npasword = hunter2\npassword = hunter2\0\nauthsecret = hunter2\n"
        "[redis]\nhost = redis://:hunter2@host\npassword = a\n hunter2\n[ws]\nauth_secret = hunter2\n"
        "cors_origin = https://me:hunter2@host\n[other]\npassword = hunter2\n[passwd]\nurl = x://y:hunter2@z\n",
        POSTGRES_PASSWORD="hunter2\n",
    )
    assert len(problems) == 11
    assert not [problem for problem in problems if "hunter2" in problem]
    assert any("'***@host': a user or password does not belong here" in problem for problem in problems)


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("hunter2")
    assert secret
    assert not Secret()
    assert secret == Secret("hunter2") != Secret("other")
    assert len({secret, Secret("hunter2")}) == 1
    mqtt = attrs.evolve(Settings().mqtt, password=secret)
    assert "hunter2" not in f"{secret} {secret!r} {mqtt} {attrs.asdict(mqtt)}"
    with pytest.raises(TypeError):
        secret.__reduce__()
    assert mqtt.password.reveal() == "hunter2"


def test_which_keys_are_secrets() -> None:
    secrets = {(section, key) for section, rows in KEYS.items() for key in rows if is_secret(section, key)}
    assert secrets == {
        ("mqtt", "password"), ("redis", "password"), ("redis", "sentinel_password"), ("postgres", "password"),
        ("ws", "auth_secret"),
    }  # fmt: skip
