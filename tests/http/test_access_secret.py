"""The secret that signs tokens: given, or made once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs
import pytest
import trio

from actors.core.errors import NotStarted
from actors.http.access import load_secret
from actors.settings.load import Secret, Settings


def with_data_dir(folder: Path, secret: str = "") -> Settings:
    default = Settings()
    return attrs.evolve(
        default,
        app=attrs.evolve(default.app, data_dir=folder),
        ws=attrs.evolve(default.ws, auth_secret=Secret(secret)),
    )


def test_a_secret_of_the_settings_is_used(tmp_path: Path) -> None:
    assert load_secret(with_data_dir(tmp_path / "var", "é" * 32)) == ("é" * 32).encode()
    assert not (tmp_path / "var").exists()


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    settings = with_data_dir(tmp_path / "a" / "var")
    secret = load_secret(settings)
    path = settings.app.data_dir / "auth_secret"
    assert len(secret) >= 32
    assert load_secret(settings) == secret == path.read_bytes().strip()
    assert load_secret(with_data_dir(tmp_path / "other")) != secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["auth_secret"]


def test_who_comes_second_takes_the_first_ones_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_secret(with_data_dir(tmp_path))
    # As when the other process makes the file between the look and the link.
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert load_secret(with_data_dir(tmp_path)) == first
    assert os.listdir(tmp_path) == ["auth_secret"]


async def test_two_processes_agree_on_one_secret(tmp_path: Path) -> None:
    found: list[bytes] = []

    async def load() -> None:
        found.append(await trio.to_thread.run_sync(load_secret, with_data_dir(tmp_path)))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(load)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert os.listdir(tmp_path) == ["auth_secret"]


def test_a_secret_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "auth_secret").write_text("short\n")
    with pytest.raises(NotStarted, match="auth_secret holds less than 32 bytes"):
        load_secret(with_data_dir(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(NotStarted, match="cannot be read or made: "):
        load_secret(with_data_dir(tmp_path / "file"))
