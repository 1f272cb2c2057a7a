"""PostgreSQL is there and set up wrongly: nothing is rejected, nothing acknowledged, and it goes on once mended."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import attrs
import psycopg
import pytest

from tests.faults.outage import Own, RaceDay, race_day
from tests.kit.daemon import Running, until
from tests.kit.station import conninfo

pytestmark = pytest.mark.live

TABLE = "alter table tracking_positions"


@pytest.mark.parametrize(
    ("broken", "mended", "why"),
    [
        ("rename column latitude to lat", "rename column lat to latitude", "column latitude is missing"),
        (
            "add column team text not null default 'x'; alter table tracking_positions alter column team drop default",
            "drop column team",
            "team",
        ),
        (
            "add constraint never check (latitude > 1000) not valid",
            "drop constraint never",
            "violates check constraint",
        ),
    ],
    ids=["missing-column", "not-null", "check"],
)
def test_a_table_changed_under_us(own: Own, broken: str, mended: str, why: str, request: pytest.FixtureRequest) -> None:
    with own.race(request.node.callspec.id, rate=200) as day:
        own.sql(f"{TABLE} {broken}")
        day.takes_nothing(why=why)
        own.sql(f"{TABLE} {mended}")
        all_is_well_again(own, day)


def all_is_well_again(own: Own, day: RaceDay) -> None:
    day.check()
    assert day.metric("fixes_rejected_total") == 0
    assert day.running.get("/readyz/ingest")[0] == 200
    assert own.sql("select * from tracking_rejections") == []


def test_no_right_to_insert(own: Own) -> None:
    own.sql("create role tracker login")
    own.sql(f"grant create on database {own.at.postgres.database} to tracker")
    own.sql("grant create on schema public to tracker")
    own.sql("grant all on all tables in schema public to tracker")
    with own.race("no-right", rate=200, postgres={"username": "tracker"}) as day:
        own.sql("revoke insert on tracking_positions from tracker")
        day.takes_nothing(why="permission denied")
        own.sql("grant insert on tracking_positions to tracker")
        all_is_well_again(own, day)


def test_no_right_to_reject(own: Own) -> None:
    """Rejections have to be durable, too."""
    with own.race("unrejected", rate=200) as day:
        own.sql("alter table tracking_rejections add constraint never check (code = '') not valid")
        own.at.send(b"rubbish")
        day.takes_nothing(why="rejections are refused")
        own.sql("alter table tracking_rejections drop constraint never")
        day.check()
        assert day.metric("fixes_rejected_total") == 1
        own.sql("truncate tracking_rejections")


def test_gone_and_back_with_another_set_up(own: Own) -> None:
    """What was spooled meanwhile waits as well."""
    with own.race("other", rate=200, postgres={"spool_after_s": 1}) as day:
        own.server.stop()
        until(lambda: day.metric("fixes_spooled") > 50)
        own.server.start()
        with psycopg.connect(conninfo(own.at.postgres), autocommit=True) as admin:
            admin.execute(f"{TABLE} rename column latitude to lat")
        day.takes_nothing(why="column latitude is missing")
        assert day.metric("fixes_spooled") > 50
        own.sql(f"{TABLE} rename column lat to latitude")
        all_is_well_again(own, day)


def is_subscribed(running: Running) -> bool:
    with suppress(OSError):
        return running.metrics()['tracking_component_up{component="broker"}'] == 1
    return False


def test_a_database_that_cannot_hold_every_name(own: Own) -> None:
    name = "latin1"
    elsewhere = attrs.evolve(own.at.postgres, database="postgres")

    def create(encoding: str) -> None:
        with psycopg.connect(conninfo(elsewhere), autocommit=True) as admin:
            admin.execute(f"drop database if exists {name} with (force)".encode())
            admin.execute(f"create database {name} encoding '{encoding}' template template0 locale 'C'".encode())

    create("LATIN1")
    before, own.at.postgres = own.at.postgres, attrs.evolve(own.at.postgres, database=name)
    try:
        with own.at.daemon(ready=False) as running:
            until(partial(is_subscribed, running), "the broker keeps for it what trackers send")
            with race_day(own.at, running, "latin1", 200, begun=False) as day:
                until(lambda: day.spectator.connected, "dashboards are served")
                day.takes_nothing(why="LATIN1")
                create("UTF8")
                until(lambda: day.component("postgres")[0], "mended")
                all_is_well_again(own, day)
    finally:
        own.at.postgres = before
