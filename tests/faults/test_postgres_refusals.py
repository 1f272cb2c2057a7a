"""Messages that nobody can use: rejected here, or refused by PostgreSQL. The others go on."""

from __future__ import annotations

import pytest

from tests.faults.outage import Own
from tests.kit.daemon import until
from tests.kit.expected import fix, fix_id, now_ms
from tests.kit.metrics import conserved

pytestmark = pytest.mark.live

REFUSING = """
create or replace function refuse() returns trigger language plpgsql as
  $$ begin raise exception 'not this one' using errcode = '23514'; end $$;
create or replace trigger refuse before insert on tracking_positions
  for each row when (new.participant_id like 'bad%') execute function refuse()
"""
MENDED = "drop trigger refuse on tracking_positions"
POISON = "select topic, convert_from(payload, 'utf8') from tracking_rejections where code = 'poison'"


@pytest.fixture(autouse=True)
def _no_rejections(own: Own) -> None:
    own.sql("drop table if exists tracking_rejections")


def test_10_000_poison_messages_in_a_row(own: Own) -> None:
    with own.race("poisoned", rate=100) as day:
        before = day.metric("acks_total")
        own.at.send(*(b"rubbish %d" % number for number in range(10_000)))
        until(lambda: day.metric("fixes_rejected_total") == 10_000, "all rejected", 60)
        until(lambda: day.metric("acks_total") > before + 10_000, "all acknowledged")
        day.dashboards_follow()
        day.check()
        assert own.sql("select count(*), count(distinct payload), max(code) from tracking_rejections") == [
            (10_000, 10_000, "bad_json")
        ]


def test_one_refused_row_in_a_batch_of_1000(own: Own) -> None:
    with own.race("refused") as day:
        own.sql(REFUSING)
        start_ms = now_ms()
        many = [fix("many", f"P{n}" if n != 333 else "bad", start_ms + n) for n in range(1000)]
        own.at.send(many)
        until(lambda: day.metric("fixes_rejected_total") == 1, "the one is found")
        stored = {row_id for (row_id,) in own.sql("select id::text from tracking_positions where race_id = 'many'")}
        assert stored == {fix_id(one) for one in many} - {fix_id(many[333])}
        ((_, payload),) = own.sql(POISON)
        assert '"bad"' in payload
        day.check()
        own.sql(MENDED)


def test_a_row_refused_alone_stops_nothing_for_long(own: Own) -> None:
    with own.race("alone") as day:
        own.sql(REFUSING)
        own.at.send(fix("lonely", "bad", now_ms()))
        until(lambda: day.metric("fixes_rejected_total") == 1, "found among others")
        day.flows()
        day.check()
        assert day.running.get("/readyz/ingest")[0] == 200
        own.sql(MENDED)


def test_refusals_that_are_not_rare_are_a_fault_of_the_set_up(own: Own) -> None:
    with own.race("wrong", rate=100) as day:
        own.sql(REFUSING)
        race = "mostly-bad"
        own.at.send([fix(race, f"{'P' if n % 2 else 'bad'}{n}", now_ms() + n) for n in range(100)])
        day.takes_nothing(why="more than 10 rows refused within a minute")
        assert own.sql("select * from tracking_rejections") == []
        assert conserved(day.running.metrics())
        own.sql(MENDED)
        day.check()
        assert own.sql(f"select count(*) from tracking_positions where race_id = '{race}'") == [(100,)]
        assert own.sql("select * from tracking_rejections") == []
