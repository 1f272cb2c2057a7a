"""`migrate --partition`: what it makes and says, by way of the command line."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Callable, Iterator

import attrs
import psycopg
import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.commands import run_here
from tests.kit.postgres import new_database
from tests.kit.station import conninfo

pytestmark = pytest.mark.live

Done = subprocess.CompletedProcess[str]
Db = psycopg.Connection[tuple[object, ...]]
KIND = "select relkind::text from pg_class where relname = 'tracking_positions'"
ROW = """insert into tracking_positions (id, race_id, participant_id, latitude, longitude, client_timestamp)
  values ('0197c50e-2cd0-8308-91bb-9f03721812bf', 'R', 'P', 1, 2, '2025-07-01T08:15:30Z')"""


@pytest.fixture
def address(postgres_server: PostgresAddress) -> Iterator[PostgresAddress]:
    """Of an empty database."""
    name = f"tracking_{secrets.token_hex(4)}"
    with psycopg.connect(conninfo(postgres_server), autocommit=True) as admin:
        admin.execute(new_database(name).encode())
        yield attrs.evolve(postgres_server, database=name)
        admin.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def db(address: PostgresAddress) -> Iterator[Db]:
    with psycopg.connect(conninfo(address), autocommit=True) as connection:
        yield connection


@pytest.fixture
def migrate(address: PostgresAddress) -> Callable[..., Done]:
    def run(*arguments: str, check: int = 0) -> Done:
        (done,) = run_here(
            [["migrate", *arguments]],
            check=check,
            POSTGRES_HOST=address.host,
            POSTGRES_PORT=str(address.port),
            POSTGRES_USERNAME=address.user,
            POSTGRES_PASSWORD=address.password.reveal(),
            POSTGRES_DATABASE=address.database,
        )
        return done

    return run


def partitions(done: Done) -> list[str]:
    return re.findall(r"table (tracking_positions_\w+)", done.stdout)


@pytest.mark.parametrize(("width", "number", "name"), [("month", 4, r"2\d{3}_[01]\d"), ("week", 6, r"2\d{3}_w[0-5]\d")])
def test_an_empty_database(migrate: Callable[..., Done], db: Db, width: str, number: int, name: str) -> None:
    """What would be made is made, and nothing the next time."""
    dry = migrate("--partition", width, "--dry-run")
    assert db.execute(KIND.encode()).fetchall() == []
    done = migrate("--partition", width)
    assert dry.stdout.replace("would create", "created") == done.stdout
    assert "created partitioned table tracking_positions\n" in done.stdout
    assert len(partitions(done)) == number
    assert all(re.fullmatch(f"tracking_positions_{name}", each) for each in partitions(done))
    assert db.execute(KIND.encode()).fetchall() == [("p",)]
    for again in (["--partition", width], ["--partition", width, "--dry-run"], []):
        assert "nothing to change" in migrate(*again).stdout
    assert partitions(migrate("--partition", width, "--since", "2025-07-01"))
    db.execute(ROW.encode())
    assert "nothing to change" in migrate("--partition", width, "--since", "2025-07-01").stdout


def test_an_empty_table_and_one_with_rows(migrate: Callable[..., Done], db: Db) -> None:
    migrate()
    db.execute(ROW.encode())
    for dry in ([], ["--dry-run"]):
        done = migrate("--partition", "month", *dry, check=1)
        (line,) = done.stderr.splitlines()
        assert line.startswith('tracking_positions has rows and stays as it is: README.md, "Partitions", says how')
        assert done.stdout == ""
        assert db.execute(KIND.encode()).fetchall() == [("r",)]
    db.execute("truncate tracking_positions")
    dry_run = migrate("--partition", "month", "--dry-run").stdout
    assert db.execute(KIND.encode()).fetchall() == [("r",)]
    assert migrate("--partition", "month").stdout == dry_run.replace("would create", "created")


def test_partitions_of_others(migrate: Callable[..., Done], db: Db) -> None:
    """One with a default partition, and one by something else, stay as they are; a month that was detached is said."""
    made = partitions(migrate("--partition", "month"))
    db.execute(f"alter table tracking_positions detach partition {made[1]}; drop table {made[2]}".encode())
    done = migrate("--partition", "month", check=1)
    assert done.stdout == f"created table {made[2]}\n", "others are made"
    assert f"{made[1]} is there, and no partition of tracking_positions" in done.stderr
    db.execute("create table rest partition of tracking_positions default")
    for dry in ([], ["--dry-run"]):
        done = migrate("--partition", "month", *dry, check=1)
        assert (
            "partitioned by RANGE (id) with a default partition: more of them can only be made by hand" in done.stderr
        )
    db.execute("drop table tracking_positions")
    db.execute("""create table tracking_positions (id uuid primary key, participant_id text not null,
      race_id text not null, latitude numeric not null, longitude numeric not null,
      client_timestamp timestamptz not null, server_received_at timestamptz, status participant_status)
      partition by hash (id)""")
    assert "partitioned by HASH (id):" in migrate("--partition", "week", check=1).stderr


def test_since_is_a_day_of_partitions(migrate: Callable[..., Done]) -> None:
    assert "--since needs --partition" in migrate("--since", "2020-01-01", check=2).stderr
    for day in ("2025-02-29", "yesterday", "1999-12-31"):
        assert (
            f"'{day}' is not a day from 2000-01-01 on"
            in migrate("--partition", "month", "--since", day, check=2).stderr
        )
