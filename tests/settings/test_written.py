"""Settings that are written down and read again are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.settings.load import Settings, load
from actors.settings.written import written
from tests.settings.settings_files import Files
from tests.settings.settings_files import files as files

NODE_ID = "[app]\nnode_id = a\n"
FILES = """
[app]
port = 1
data_dir = elsewhere/é
log_level = debug
node_id = a
[mqtt]
broker_url = mqtts://a:1,mqtts://b
username = #u;é {x} %(y)s
password = p # " w=ü
topics = a/+, b/+/#
ca_file = pem
[redis]
host = /run/a b,c.sock
password = hunter2
[postgres]
host = a,b:5433
spool = no
[ws]
host = ::1, localhost
cors_origin = https://a, http://b:1
auth_secret = 0123456789 0123456789 0123456789
compression = no
[page]
tile_url = https://a/{z}/{x}/{y}.png?a=%1
[cluster]
ingest = none
relay = yes
"""


@pytest.mark.parametrize("text", [NODE_ID, FILES, NODE_ID + "[mqtt]\nreceipt_topic = r/{participant_id}"])
def test_what_is_written_means_the_same_in_another_folder(files: Files, tmp_path: Path, text: str) -> None:
    (tmp_path / "pem").write_text("x")
    settings = files.load(text)
    again, secrets = written(settings)
    folder = tmp_path / "other"
    folder.mkdir()
    for name, secret in secrets.items():
        (folder / name).write_text(secret.reveal())
    (folder / "settings.ini").write_text(again)
    assert load(folder / "settings.ini", {}) == settings
    assert not any(secret.reveal() in again for secret in secrets.values())


def test_only_what_differs_is_written(files: Files, tmp_path: Path) -> None:
    text, secrets = written(files.load("[app]\nnode_id = a\n[redis]\ndb = 0\npassword = p"))
    assert text == f"[app]\ndata_dir = {tmp_path}/var\nnode_id = a\n[redis]\npassword_file = redis_password\n"
    assert secrets.keys() == {"redis_password"}
    assert written(Settings())[0].startswith("[app]\nnode_id = "), "the host's name is no default of the file"
