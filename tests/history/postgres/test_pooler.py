"""Behind PgBouncer: a session is anybody's, so nothing of ours stays in it and nothing of others counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import psycopg
import pytest
import trio

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.core.rejection import poison
from actors.history.postgres import migration
from actors.history.postgres import reader as history_driver
from actors.history.postgres.libpq import connect
from actors.history.postgres.reader import PostgresHistory
from actors.history.postgres.writer import PostgresWriter
from actors.history.queries import HistoryQuery
from actors.settings.load import Settings
from tests.commands.check_settings import about, with_postgres
from tests.commands.check_settings import settings as settings
from tests.kit.making import make_fix
from tests.kit.pooler import Pooler, needs_pgbouncer, start_pgbouncer
from tests.kit.servers import free_port
from tests.kit.station import conninfo
from tests.kit.stores import COUNT, Database

pytestmark = [pytest.mark.live, needs_pgbouncer]

OTHERS = {
    "search_path": "elsewhere", "synchronous_commit": "off", "statement_timeout": "20000", "lock_timeout": "1",
    "role": "pg_monitor",
}  # fmt: skip
OF_ONE_TRANSACTION = ("transaction_isolation", "transaction_read_only")
SEEN_BY_A_COMMIT = """
create table seen as select name, setting from pg_settings where false;
create function look() returns trigger language plpgsql security definer as
  $$ begin insert into seen select name, setting from pg_settings; return null; end $$;
create trigger look after insert on tracking_positions execute function look()"""


@pytest.fixture
def pooler(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pooler]:
    """One connection for everybody, in the mode that the test names."""
    with start_pgbouncer(tmp_path, database.address, request.param, default_pool_size=1) as started:
        yield started


transaction_pooling = pytest.mark.parametrize("pooler", ["transaction"], indirect=True)
statement_pooling = pytest.mark.parametrize("pooler", ["statement"], indirect=True)


@transaction_pooling
async def test_other_clients_of_the_pool_and_we_do_not_notice_each_other(database: Database, pooler: Pooler) -> None:
    with closing(psycopg.connect(conninfo(pooler.address), autocommit=True, application_name="other")) as other:
        other.execute("create schema elsewhere")

        def session() -> dict[str, str]:
            found = other.execute("select name, setting from pg_settings where source = 'session'").fetchall()
            kept = {name: value for name, value in found if name not in OF_ONE_TRANSACTION}
            return kept | {"role": other.execute("select current_user::text").fetchall()[0][0]}

        def leave_settings() -> None:
            for name, value in OTHERS.items():
                other.execute(f"set {name} = '{value}'".encode())

        leave_settings()
        before = session()
        assert before.items() >= OTHERS.items()
        writer, history = PostgresWriter(pooler.address), PostgresHistory(pooler.address)
        await writer.ping()
        assert session() == before, "migration"
        assert other.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchall() == [(0,)]
        await database.run(SEEN_BY_A_COMMIT)
        fix = make_fix()
        assert await writer.store([fix]) == 1
        assert await writer.reject([poison(fix, "", "why")]) == 1
        assert await history.newest("R1", 0) == [fix]
        assert await history.newest_of_races(["R1", "R2"], 0) == {"R1": [fix], "R2": []}
        assert [race.race_id for race in await history.races()] == ["R1"]
        assert len(await history.rejections()) == 1
        await writer.trim_rejections()
        server = other.execute("select pg_backend_pid()").fetchall()
        for by_participant in (False, True):
            async with history.stream(HistoryQuery("R1"), by_participant) as chunks:
                assert [fix async for chunk in chunks for fix in chunk] == [fix]
        assert other.execute("select pg_backend_pid()").fetchall() == server, "the pool had to make a new connection"
        assert session() == before
        await writer.aclose()
        await history.aclose()
    assert await database.rows(COUNT) == [["1"]]
    seen = {row[0]: row[1] for row in await database.rows("select name, setting from seen")}
    assert (seen["synchronous_commit"], seen["lock_timeout"], seen["statement_timeout"]) == ("on", "0", "9500")


@statement_pooling
async def test_statement_pooling_is_refused_in_one_line(
    database: Database, pooler: Pooler, settings: Settings, writer: PostgresWriter
) -> None:
    """Also where the tables are there already."""
    await writer.store([make_fix()])
    with pytest.raises(StoreMisconfigured, match=r"pool_mode must be session or transaction$"):
        await PostgresWriter(pooler.address).ping()
    connection = await connect(pooler.address, "test", 10)
    with pytest.raises(StoreMisconfigured, match="pool_mode must be"):
        await migration.apply(connection)
    with pytest.raises(StoreMisconfigured, match="pool_mode must be"):
        async with PostgresHistory(pooler.address).stream(HistoryQuery("R1")):
            pytest.fail("it was taken")
    (failed,) = await trio.to_thread.run_sync(about, with_postgres(settings, pooler.address), "postgres")
    assert failed.level == "FAILED"
    assert failed.text.endswith("pool_mode must be session or transaction")


@transaction_pooling
async def test_check_gets_through_a_pool(pooler: Pooler, settings: Settings) -> None:
    """Which refuses many a start-up parameter."""
    found = await trio.to_thread.run_sync(about, with_postgres(settings, pooler.address), "postgres")
    assert {finding.level for finding in found} == {"ok", "warning"}, found


@pytest.mark.parametrize("options", [{"query_wait_timeout": 1}, {"client_login_timeout": 1}])
async def test_a_pool_that_never_reached_its_postgres_is_an_outage(
    database: Database, tmp_path: Path, options: dict[str, object]
) -> None:
    """PgBouncer says so in FATAL errors, as of a wrong password."""
    nowhere = attrs.evolve(database.address, port=free_port())
    with (
        start_pgbouncer(tmp_path, nowhere, "transaction", **options) as started,
        pytest.raises(StoreUnavailable, match="timeout"),
    ):
        await connect(started.address, "test", 10)


@transaction_pooling
async def test_a_pool_without_room_or_closed_by_its_operator_is_an_outage(pooler: Pooler) -> None:
    admin = await connect(pooler.admin, "test", 10)
    await admin.script("set max_client_conn = 1")
    with pytest.raises(StoreUnavailable, match="no more connections"):
        await connect(pooler.address, "test", 10)
    await admin.script("set max_client_conn = 100")
    await admin.script(f"disable {pooler.address.database}")
    with pytest.raises(StoreUnavailable, match="is disabled"):
        await connect(pooler.address, "test", 10)
    admin.close()


@pytest.mark.parametrize("pooler", ["session"], indirect=True)
async def test_readers_give_their_connections_back(
    pooler: Pooler, writer: PostgresWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pool of one, where each has it for as long as it is connected."""
    monkeypatch.setattr(history_driver, "IDLE_S", 0.1)
    await writer.store([make_fix()])
    for _ in range(2):
        history = PostgresHistory(pooler.address)
        assert await history.newest("R1", 0, deadline_s=30) == [make_fix()]
        assert await history.newest("R1", 0, deadline_s=30) == [make_fix()]
    with trio.fail_after(30):
        await (await connect(pooler.address, "test", 30)).query("select 1")
