"""PostgreSQL is there and takes nothing: locked, read-only, out of connections or disk, or its table is gone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.faults.outage import Own, RaceDay, newest_sent
from tests.faults.small_disk import small_disk
from tests.kit.daemon import until
from tests.kit.metrics import conserved
from tests.kit.station import conninfo

pytestmark = pytest.mark.live

SOON: dict[str, object] = {"spool_after_s": 1}


def goes_to_the_spool(day: RaceDay) -> None:
    """Messages are acknowledged and shown for longer than PostgreSQL is asked again, and it stays known as down."""
    until(lambda: day.metric("fixes_spooled") > 0, "rows in the spool")
    for _ in range(4):
        day.flows(100)
        day.dashboards_follow()
        assert not day.component("postgres")[0]
        assert day.running.get("/readyz/ingest")[0] == 200
    assert conserved(day.running.metrics())


def test_a_table_that_somebody_locked(own: Own) -> None:
    with own.race("locked", rate=200, postgres=SOON) as day:
        with psycopg.connect(conninfo(own.at.postgres)) as somebody:
            somebody.execute("lock table tracking_positions in access exclusive mode")
            goes_to_the_spool(day)
        day.check()


def test_a_database_that_is_read_only(own: Own) -> None:
    with own.race("read-only", rate=200, postgres=SOON) as day:
        own.sql("alter system set default_transaction_read_only = on")
        own.sql("select pg_reload_conf()")
        day.until_down("postgres", "read-only")
        goes_to_the_spool(day)
        # The setting holds for what would end it.
        with psycopg.connect(conninfo(own.at.postgres), autocommit=True) as admin:
            admin.execute("set default_transaction_read_only = off")
            admin.execute("alter system reset default_transaction_read_only")
            admin.execute("select pg_reload_conf()")
        day.check()


@contextmanager
def few_connections(own: Own) -> Iterator[None]:
    own.server.stop()
    before, own.server.argv = own.server.argv, [*own.server.argv, "--max_connections=10"]
    own.server.start()
    try:
        yield
    finally:
        own.server.stop()
        own.server.argv = before
        own.server.start()


def test_no_connection_is_left_and_ours_are_thrown_out(own: Own) -> None:
    ours = "application_name like 'race-tracking%'"
    with few_connections(own), own.race("crowded", rate=200, postgres=SOON) as day:
        with psycopg.connect(conninfo(own.at.postgres), autocommit=True) as admin, ExitStack() as crowd:

            def crowded() -> bool:
                admin.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {ours}")
                try:
                    while True:
                        crowd.enter_context(psycopg.connect(conninfo(own.at.postgres), autocommit=True))
                except psycopg.OperationalError as refused:
                    assert "too many" in str(refused)  # noqa: PT017 - the way out of the loop
                return not admin.execute(f"select 1 from pg_stat_activity where {ours}").fetchall()

            until(crowded, "none of ours is left")
            day.until_down("postgres", "too many")
            goes_to_the_spool(day)
        day.check()


def test_a_table_dropped_while_running_is_made_again(own: Own) -> None:
    with own.race("dropped", rate=200) as day:
        day.press.pause()
        until(lambda: day.metric("fixes_in_flight") == 0)
        gone = set(day.press.sent)
        own.sql("drop table tracking_positions")
        day.press.resume()
        day.until_down("postgres", "does not exist")
        until(lambda: day.component("postgres")[0], "made again")
        last = max(day.press.sent[row_id]["timestamp"] for row_id in gone)
        everybody = {f"P{number}" for number in range(5)}
        until(lambda: {who for (_, who), at in newest_sent(day.press).items() if at > last} == everybody, "all moved")
        day.check(may_be_lost=gone)
        assert day.metric("fixes_rejected_total") == 0


def test_the_disk_of_the_table_is_full(own: Own) -> None:
    user = own.server.user
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as short,  # where PostgreSQL's user gets to
        small_disk(Path(short) / "disk") as disk,
        own.race("full", rate=200, postgres=SOON) as day,
    ):
        assert user is not None
        Path(short).chmod(0o755)
        (disk.folder / "pg").mkdir()
        os.chown(disk.folder / "pg", user.pw_uid, user.pw_gid)
        own.sql(f"create tablespace small location '{disk.folder}/pg'")
        own.sql("alter table tracking_positions set tablespace small")
        disk.fill()
        day.until_down("postgres", "53100")
        goes_to_the_spool(day)
        disk.make_room()
        day.check()
        own.sql("alter table tracking_positions set tablespace pg_default")
        own.sql("drop tablespace small")
