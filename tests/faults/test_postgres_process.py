"""PostgreSQL's processes restarted, killed and stopped while messages flow."""

from __future__ import annotations

import os
import signal

import psycopg
import pytest

from tests.faults.outage import WRITERS, Own, RaceDay
from tests.kit.daemon import until
from tests.kit.expected import fix, now_ms
from tests.kit.metrics import conserved
from tests.kit.station import conninfo

pytestmark = pytest.mark.live

GATE = """
create or replace function gate() returns trigger language plpgsql as
  $$ begin perform pg_advisory_xact_lock_shared(42); return new; end $$;
create or replace trigger gate before insert on tracking_positions
  for each row when (new.participant_id = 'gate') execute function gate();
"""
"""A batch with a fix of this participant in it stops half-way, with rows before it inserted, until the gate is open."""


def test_a_fast_restart(own: Own) -> None:
    with own.race("restarted") as day:
        own.server.stop()
        day.until_down("postgres")
        day.dashboards_follow()
        own.server.start()
        day.check()


def test_sigkill_of_the_postmaster(own: Own) -> None:
    with own.race("killed", rate=200) as day:
        own.server.kill()
        day.dashboards_follow()
        assert conserved(day.running.metrics())
        own.server.start()
        day.check()


def stop_in_the_middle(own: Own, day: RaceDay, gate: psycopg.Connection[tuple[object, ...]]) -> int:
    """A batch is half inserted and goes no further; the process id of the backend that does it."""
    gate.execute(GATE.encode())
    gate.execute("select pg_advisory_lock(42)")
    start_ms = now_ms()
    names = [f"P{number}" if number != 25 else "gate" for number in range(51)]  # rows are inserted in order of time
    own.at.send([fix(f"gate-{day.press.race}", name, start_ms + n) for n, name in enumerate(names)])
    waiting = f"select pid {WRITERS} and wait_event_type = 'Lock' and wait_event = 'advisory'"
    until(lambda: own.sql(waiting), "a batch is half-way")
    return int(own.sql(waiting)[0][0])


def half_way(own: Own, day: RaceDay) -> int:
    """Rows of that batch."""
    ((count,),) = own.sql(f"select count(*) from tracking_positions where race_id = 'gate-{day.press.race}'")
    return int(count)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_backend_killed_in_the_middle_of_a_batch(own: Own, number: signal.Signals) -> None:
    with own.race(f"backend-{number.name}", postgres={"spool_after_s": 600}) as day:
        with psycopg.connect(conninfo(own.at.postgres), autocommit=True) as gate:
            pid = stop_in_the_middle(own, day, gate)
            day.dashboards_follow()
            os.kill(pid, number)  # SIGKILL makes PostgreSQL throw out everybody: the gate opens
            until(lambda: not day.component("postgres")[0], "seen")
        day.flows()
        day.check()
        assert half_way(own, day) == 51


def test_one_backend_stopped_in_the_middle_of_an_insert(own: Own) -> None:
    """What it inserted is in nobody's way but of the same rows, and goes on when it does."""
    with own.race("backend-stopped", postgres={"spool_after_s": 1}) as day:
        with psycopg.connect(conninfo(own.at.postgres), autocommit=True) as gate:
            pid = stop_in_the_middle(own, day, gate)
            os.kill(pid, signal.SIGSTOP)
        try:
            day.flows()
            day.dashboards_follow()
            assert day.running.get("/readyz/ingest")[0] == 200
        finally:
            os.kill(pid, signal.SIGCONT)
        day.check()
        assert half_way(own, day) == 51


def test_all_of_postgresql_stopped_dashboards_and_acknowledgements_go_on(own: Own) -> None:
    with own.race("stopped", rate=200, postgres={"spool_after_s": 1}) as day:
        own.server.sigstop()
        day.flows(200)
        day.dashboards_follow()
        assert day.running.get("/readyz/ingest")[0] == 200
        assert day.metric("fixes_spooled") > 100
        assert conserved(day.running.metrics())
        own.at.send(fix("begun-while-stopped", "P1", now_ms()))
        until(lambda: "P1" in day.running.live("begun-while-stopped"), "a new race is live")
        own.server.sigcont()
        day.check()


def test_without_a_spool_nothing_is_acknowledged_while_it_is_stopped(own: Own) -> None:
    with own.race("no-spool", rate=200, postgres={"spool": "no"}) as day:
        own.server.stop()
        day.takes_nothing("postgres", "")
        own.server.start()
        day.check()


@pytest.mark.soak
@pytest.mark.parametrize("spool", ["yes", "no"])
def test_our_backend_stopped_while_nothing_happens_is_left_behind(own: Own, spool: str) -> None:
    """It is never continued: another connection does its work."""
    with own.race(f"idle-{spool}", postgres={"spool": spool}) as day:
        day.press.pause()
        until(lambda: day.metric("fixes_in_flight") == 0)
        ((pid,),) = own.sql(f"select pid {WRITERS}")
        os.kill(pid, signal.SIGSTOP)
        try:
            day.until_down("postgres", "did not answer")
            day.press.resume()
            day.flows()
            day.check()
        finally:
            os.kill(pid, signal.SIGCONT)
