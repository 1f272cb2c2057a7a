"""A server that lost what it had confirmed gets it again, with the next connection."""

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs

from actors.history.postgres import recent
from actors.history.postgres.writer import PostgresWriter
from tests.kit.making import make_fix
from tests.kit.stores import COUNT, Database

pytestmark = pytest.mark.live

END_SESSIONS = """
select pg_terminate_backend(pid, 30000) from pg_stat_activity where application_name = 'race-tracking writer'"""


async def test_what_was_lost_is_back_once_somebody_connects(writer: PostgresWriter, database: Database) -> None:
    for second in range(3):
        assert await writer.store([make_fix(at_s=second), make_fix("P2", at_s=second)]) == 2
    await database.run(f"delete from tracking_positions where participant_id = 'P2'; {END_SESSIONS}")
    with capture_logs() as logs:
        await writer.ping()
    assert [(line["log_level"], line["rows"]) for line in logs if "lost rows" in line["event"]] == [("error", 3)]
    assert await database.rows(COUNT) == [["6"]]
    assert (writer.lost(), writer.lost()) == (3, 0)
    await database.run(END_SESSIONS)
    with capture_logs() as logs:
        assert await writer.store([make_fix("P3")]) == 1
    assert not [line for line in logs if "lost rows" in line["event"]]


async def test_what_was_stored_once_on_this_connection_is_not_written_again(
    writer: PostgresWriter, database: Database
) -> None:
    """Who deletes rows while the daemon runs has them deleted, unless it connects anew within seconds."""
    await writer.store([make_fix()])
    await database.run("delete from tracking_positions")
    await writer.ping()
    assert await database.rows(COUNT) == [["0"]]


async def test_what_was_deleted_later_stays_deleted(
    writer: PostgresWriter, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it was the last thing that was stored before PostgreSQL was restarted."""
    await writer.store([make_fix()])
    monkeypatch.setattr(recent, "KEPT_S", 0.0)  # it is long ago
    await writer.ping()
    await database.run(f"delete from tracking_positions; {END_SESSIONS}")
    await writer.ping()
    assert await database.rows(COUNT) == [["0"]]


async def test_it_goes_on_where_it_was_interrupted(writer: PostgresWriter, database: Database) -> None:
    for second in range(3):
        await writer.store([make_fix(at_s=second)])
    await database.run(f"delete from tracking_positions; {END_SESSIONS}")
    with trio.move_on_after(0):  # the first wait ends it
        await writer.ping()
    await writer.ping()
    assert await database.rows(COUNT) == [["3"]]
    assert writer.lost() == 3


async def test_rows_that_are_refused_now_keep_nobody_waiting(writer: PostgresWriter, database: Database) -> None:
    await writer.store([make_fix(at_s=1)])
    await writer.store([make_fix("P2")])
    await database.run(f"""
        delete from tracking_positions;
        alter table tracking_positions add constraint no_p2 check (participant_id <> 'P2'); {END_SESSIONS}""")
    with capture_logs() as logs:
        await writer.ping()
        await writer.ping()
    assert [line["rows"] for line in logs if "are refused now" in line["event"]] == [1]
    assert await database.rows(COUNT) == [["1"]]
