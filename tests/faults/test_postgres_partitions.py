"""A table in partitions that lacks one: its rows wait, where the daemon keeps them or with the broker, others go on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from tests.faults.outage import Own, RaceDay
from tests.kit.daemon import until
from tests.kit.expected import fix, fix_id, now_ms
from tests.kit.metrics import conserved

pytestmark = pytest.mark.live

TABLE = """
drop table if exists tracking_positions, tracking_participants;
drop type if exists participant_status;
create type participant_status as enum ('moving', 'stopped', 'finished', 'disqualified');
create table tracking_positions (
  id uuid primary key default gen_random_uuid(), participant_id varchar(50) not null,
  race_id varchar(50) not null, latitude numeric(10, 7) not null, longitude numeric(10, 7) not null,
  client_timestamp timestamptz not null, server_received_at timestamptz not null default now(),
  status participant_status not null default 'moving') partition by {}
"""
OLD = "2020-02-15T08:00:00.250Z"
YEAR_MS = 366 * 86_400_000


@pytest.fixture
def by_time(own: Own) -> Iterator[None]:
    """By the time with which ids begin: a partition around today and no other."""
    own.sql(TABLE.format("range (id)"))
    edges = [f"{ms << 80:032x}" for ms in (now_ms() - YEAR_MS, now_ms() + YEAR_MS)]
    own.sql(f"create table today partition of tracking_positions for values from ('{edges[0]}') to ('{edges[1]}')")
    yield
    own.sql("drop table tracking_positions")


def what_to_do(day: RaceDay, month: str) -> str:
    """The statement that the log tells."""
    wanted = rf'what_to_do="(create table \w*{month.replace("-", "_")} .*?)"'
    until(lambda: re.search(wanted, day.running.log), "the log says what to make")
    found = re.search(wanted, day.running.log)
    assert found
    return found[1]


def stored(own: Own, row_id: str) -> bool:
    return own.sql(f"select 1 from tracking_positions where id = '{row_id}'") != []


@pytest.mark.usefixtures("by_time")
def test_one_fix_of_a_month_without_a_partition(own: Own) -> None:
    """It waits in the spool, also over a restart; nobody else notices, and the log says what to make."""
    with own.race("month", rate=200) as day:
        old = fix("month-old", at=OLD)
        own.at.send(old)
        until(lambda: day.metric("fixes_without_partition") == 1, day.running.log)
        before = len(day.running.log)
        day.flows(400)
        day.dashboards_follow()
        up, detail = day.component("postgres")
        assert up, detail
        assert "no partition for 2020-02" in detail
        assert day.running.get("/readyz/ingest")[0] == 200
        assert "component=postgres" not in day.running.log[before:]
        assert OLD in day.running.log
        statement = what_to_do(day, "2020-02")
        until(lambda: day.metric("fixes_spooled") == 1)
        assert day.running.stop() == 0
        with own.at.daemon() as running:
            day = RaceDay(own.at, running, day.press, day.spectator)
            until(lambda: day.metric("fixes_without_partition") == 1, "it is found again")
            day.flows(100)
            assert not stored(own, fix_id(old))
            own.sql(statement)
            until(lambda: stored(own, fix_id(old)), "it is stored once there is a partition")
            until(lambda: day.component("postgres") == (True, "ok"), "all is well")
            day.check()
            assert day.metric("fixes_rejected_total") == 0


@pytest.mark.usefixtures("by_time")
def test_without_a_spool_its_message_waits(own: Own) -> None:
    """And the acknowledgements after it, which go out in order; their rows are stored and live all the same."""
    with own.race("kept", postgres={"spool": "no"}) as day:
        old = fix("kept-old", at=OLD)
        own.at.send(old)
        day.until_down("postgres", "no partition for 2020-02")
        acks = day.metric("acks_total")
        taken = day.metric("fixes_committed_total")
        until(lambda: day.metric("fixes_committed_total") > taken + 100, "others are stored")
        day.dashboards_follow()
        seen = day.running.metrics()
        assert conserved(seen), seen
        assert seen["tracking_acks_total"] - acks < 50, "only what came before it"
        assert seen["tracking_messages_unacked"] > 0
        assert not stored(own, fix_id(old))
        own.sql(what_to_do(day, "2020-02"))
        day.flows(100)
        assert stored(own, fix_id(old))
        day.check()
        assert day.metric("fixes_rejected_total") == 0


@pytest.mark.usefixtures("by_time")
def test_the_present_month_is_missing(own: Own) -> None:
    """As when somebody forgot to make the next one: everything waits in the spool."""
    with own.race("present", rate=200) as day:
        own.sql("alter table tracking_positions detach partition today")
        until(lambda: day.metric("fixes_without_partition") > 100)
        day.flows(200)
        day.dashboards_follow()
        assert day.running.get("/readyz/ingest")[0] == 200
        seen = day.running.metrics()
        assert conserved(seen), seen
        assert time.strftime("%Y-%m", time.gmtime()) in day.component("postgres")[1]
        own.sql("alter table today rename to somewhere")
        own.sql(what_to_do(day, time.strftime("%Y-%m", time.gmtime())))
        own.sql("insert into tracking_positions select * from somewhere on conflict do nothing")
        day.check()
        assert day.metric("fixes_rejected_total") == 0
    own.sql("drop table somewhere")


@pytest.mark.usefixtures("by_time")
def test_the_list_of_races_follows_what_becomes_of_partitions(own: Own) -> None:
    """No trigger sees it."""
    old = [fix("listed", f"P{number}", at=OLD) for number in range(20)]

    def participants() -> int:
        races = json.loads(day.running.get("/api/races")[1])["races"]
        return sum(race["participants"] for race in races if race["raceId"] == "listed")

    with own.race("list") as day:
        own.at.send(old, fix("listed", "P0", now_ms()))
        own.sql(what_to_do(day, "2020-02"))
        until(lambda: participants() == 20)
        own.sql("alter table tracking_positions detach partition tracking_positions_2020_02")
        until(lambda: participants() == 1, "detached")
        bounds = what_to_do(day, "2020-02").partition(" for values ")[2]
        own.sql(f"alter table tracking_positions attach partition tracking_positions_2020_02 for values {bounds}")
        until(lambda: participants() == 20, "attached")
        own.sql("truncate tracking_positions_2020_02")
        until(lambda: participants() == 1, "truncated")
        day.check()


def test_partitions_by_hash(own: Own) -> None:
    """A quarter of the rows waits while one of four is away."""
    own.sql(TABLE.format("hash (id)"))
    bounds = "for values with (modulus 4, remainder {})".format
    for number in range(4):
        own.sql(f"create table positions_{number} partition of tracking_positions {bounds(number)}")
    with own.race("parts", rate=200) as day:
        day.flows(200)
        own.sql("alter table tracking_positions detach partition positions_3")
        until(lambda: day.metric("fixes_without_partition") > 20)
        day.flows(200)
        day.dashboards_follow()
        own.sql(f"alter table tracking_positions attach partition positions_3 {bounds(3)}")
        day.check()
        assert day.metric("fixes_rejected_total") == 0
    own.sql("drop table tracking_positions")
