"""The spool drains into PostgreSQL, and then something else breaks: everything is in history once, in the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.faults.outage import Own, RaceDay
from tests.kit.daemon import until
from tests.kit.expected import fix, fix_id, now_ms
from tests.mqtt.mqtt_listener import listening

pytestmark = pytest.mark.live

BACKLOG = 10_000
SLOW = """
create or replace function slow() returns trigger language plpgsql as
  $$ begin perform pg_sleep(0.3); return null; end $$;
create or replace trigger slow after insert on tracking_positions for each statement execute function slow()
"""
"""So that a test has the time to be in the middle of the drain."""
QUICK = "drop trigger if exists slow on tracking_positions"


@contextmanager
def draining(own: Own, name: str) -> Iterator[tuple[RaceDay, set[str]]]:
    """A part of the backlog is drained, the rest is in the spool. Yields the ids of its rows, too."""
    own.sql(QUICK)  # should the test before have failed
    with own.race(name, rate=100, postgres={"spool_after_s": 1}) as day:
        own.sql(SLOW)
        own.server.stop()
        until(lambda: day.metric("fixes_spooled") > 0)
        start_ms = now_ms() - BACKLOG
        many = [fix(f"backlog-{name}", f"P{n % 100}", start_ms + n) for n in range(BACKLOG)]
        own.at.send(*(many[n : n + 1000] for n in range(0, BACKLOG, 1000)))
        until(lambda: day.metric("fixes_spooled") >= BACKLOG)
        own.server.start()
        until(lambda: day.metric("fixes_spooled") < BACKLOG * 0.8, "it drains")
        assert day.metric("fixes_spooled") > BACKLOG / 4
        yield day, {fix_id(one) for one in many}


def all_there(own: Own, day: RaceDay, ids: set[str]) -> None:
    own.sql(QUICK)
    day.check(within_s=90)
    race = f"backlog-{day.press.race}"
    stored = [row_id for (row_id,) in own.sql(f"select id::text from tracking_positions where race_id = '{race}'")]
    assert set(stored) == ids
    assert len(stored) == BACKLOG


def frozen(own: Own, day: RaceDay) -> None:
    own.server.sigstop()
    day.until_down("postgres")
    day.flows(200)
    day.dashboards_follow()
    own.server.sigcont()


def killed(own: Own, day: RaceDay) -> None:
    own.server.kill()
    day.until_down("postgres")
    day.flows(200)
    own.server.start()


def broker_restarted(own: Own, day: RaceDay) -> None:
    own.at.broker.stop()
    day.until_down("broker")
    own.at.broker.start()


def redis_killed(own: Own, day: RaceDay) -> None:
    own.at.redis.kill()
    day.dashboards_follow()
    own.at.redis.start()


@pytest.mark.parametrize("break_it", [frozen, killed, broker_restarted, redis_killed])
def test_something_else_breaks(own: Own, break_it: Callable[[Own, RaceDay], None]) -> None:
    with draining(own, break_it.__name__) as (day, ids):
        break_it(own, day)
        all_there(own, day, ids)


def test_each_is_receipted_as_it_was_sent(own: Own) -> None:
    """Sent again while it waits in the spool, in another form: its tracker looks for that one."""
    forms = ["2026-06-01T08:15:30Z", "2026-06-01T10:15:30+02:00", "2026-06-01T08:15:30.000Z"]
    receipts: dict[str, object] = {"receipt_topic": "receipts/{participant_id}"}
    with (
        own.race("receipts", mqtt=receipts, postgres={"spool_after_s": 1}) as day,
        listening(own.at.broker.port, "receipts/P7") as listener,
    ):
        own.server.stop()
        day.until_down("postgres")
        for form in forms:
            own.at.send(*[fix("receipted", "P7", form)] * 2)
            day.flows()
        own.server.start()
        day.check()
        assert sorted(text for _, told in listener.messages for text in json.loads(told)["timestamps"]) == sorted(forms)
        assert len(own.sql("select 1 from tracking_positions where race_id = 'receipted'")) == 1


def test_the_daemon_is_killed_and_killed_again(own: Own) -> None:
    """The second time while it looks through what it found."""
    with draining(own, "daemon-killed") as (day, ids):
        for soon in (True, False):
            day.running.kill()
            with own.at.daemon(ready=not soon) as running:
                day = RaceDay(own.at, running, day.press, day.spectator)
                if not soon:
                    all_there(own, day, ids)


def test_it_is_stopped_in_the_middle(own: Own) -> None:
    """What is in the spool is durable: a stop does not wait for it, and the next start finds it."""
    with draining(own, "stopped") as (day, ids):
        assert day.running.stop() == 0
        with own.at.daemon() as running:
            day = RaceDay(own.at, running, day.press, day.spectator)
            assert day.metric("fixes_recovered_total") > 0
            all_there(own, day, ids)
