"""A PostgreSQL as its DBA wants it: limits of sessions, another isolation, new indexes, a server that recovers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.faults.outage import Own, race_day
from tests.kit.daemon import until
from tests.kit.expected import fix, now_ms
from tests.kit.readme import block
from tests.kit.station import conninfo

pytestmark = pytest.mark.live

IMPATIENT = {
    "statement_timeout": "'200ms'",
    "lock_timeout": "'100ms'",
    "idle_in_transaction_session_timeout": "'100ms'",
    "idle_session_timeout": "'1s'",
    "transaction_timeout": "'200ms'",  # from PostgreSQL 17 on
    "default_transaction_isolation": "'serializable'",
}


@contextmanager
def altered(own: Own, settings: dict[str, str]) -> Iterator[None]:
    """Of the database, for new sessions."""
    ((name,),) = own.sql("select current_database()::text")
    known = {str(setting) for (setting,) in own.sql("select name from pg_settings")}
    for setting, value in settings.items():
        if setting in known:
            own.sql(f"alter database {name} set {setting} = {value}")
    yield
    own.sql(f"alter database {name} reset all")


def test_sessions_may_not_last_or_wait(own: Own) -> None:
    """Nobody notices: not a batch, not a pause of the trackers, not a table that is locked for a moment."""
    with altered(own, IMPATIENT), own.race("impatient", rate=200, postgres={"spool_after_s": 10}) as day:
        before = len(day.running.log)
        for _ in range(3):
            day.press.pause()
            until(lambda: day.metric("fixes_in_flight") == 0)
            idle_for_long(own)
            day.press.resume()
            day.flows(100)
        with psycopg.connect(conninfo(own.at.postgres)) as somebody:
            somebody.execute("set transaction_timeout = 0; set idle_in_transaction_session_timeout = 0")
            somebody.execute("lock table tracking_positions in exclusive mode")
            taken = day.metric("messages_received_total")
            until(lambda: day.metric("messages_received_total") > taken + 200)
        day.check()
        assert "component=postgres" not in day.running.log[before:]


def idle_for_long(own: Own) -> None:
    """Until a session of ours that does nothing would have been ended, had the DBA his way."""
    with psycopg.connect(conninfo(own.at.postgres), autocommit=True) as idle:

        def ended() -> bool:
            return not own.sql(f"select 1 from pg_stat_activity where pid = {idle.info.backend_pid}")

        until(ended, "an idle session is ended")


def test_indexes_are_built_anew(own: Own) -> None:
    """Nobody notices."""
    with own.race("rebuilt", rate=200) as day:
        before = len(day.running.log)
        for statement in block("sql", "REINDEX").strip().split("\n"):
            own.sql(statement)
            day.flows(100)
        day.check()
        assert "component=postgres" not in day.running.log[before:]
        assert not own.sql("select 1 from pg_index where not indisvalid")


def test_a_column_made_narrower(own: Own) -> None:
    """It takes most rows and refuses some: none of them is at fault."""
    with own.race("narrow", rate=200) as day:
        own.sql("alter table tracking_positions alter column longitude type numeric(9, 7)")
        far = fix("far", "P1", now_ms(), longitude=120.5)
        own.at.send([fix("far", "P2", now_ms()), far])
        day.takes_nothing(why="column longitude is numeric(9,7)")
        own.sql("alter table tracking_positions alter column longitude type numeric(10, 7)")
        day.check()
        assert own.sql("select participant_id from tracking_positions where race_id = 'far' order by 1") == [
            ("P1",),
            ("P2",),
        ]
        assert day.metric("fixes_rejected_total") == 0


@contextmanager
def recovering(own: Own) -> Iterator[Callable[[], None]]:
    """57P03 to everybody, as while a large write-ahead log is replayed; yields how to end it."""
    signal = own.server.folder / "data" / "standby.signal"
    argv, ready = own.server.argv, own.server.ready

    def end() -> None:
        signal.unlink()
        own.server.stop()
        own.server.argv, own.server.ready = argv, ready
        own.server.start()

    own.server.stop()
    signal.touch()
    own.server.argv, own.server.ready = [*argv, "--hot_standby=off"], lambda server: server.listens()
    own.server.start()
    try:
        yield end
    finally:
        if signal.exists():
            end()


def test_a_server_that_recovers_for_long(own: Own) -> None:
    """It is away, and what comes meanwhile goes to the spool, also of a daemon that starts now."""
    with own.race("before") as day:
        day.check()
    with (
        own.settings(postgres={"spool_after_s": 1}),
        recovering(own) as end,
        own.at.daemon(ready=False) as running,
        race_day(own.at, running, "recovers", 200, begun=False) as day,
    ):
        until(lambda: day.spectator.connected, "dashboards are served")
        day.until_down("postgres")
        until(lambda: day.metric("fixes_spooled") > 100, "rows in the spool")
        day.flows(200)
        day.dashboards_follow()
        assert day.running.get("/readyz/ingest")[0] == 200
        end()
        day.check()
