"""The lock of the node that reads: whose it is, when it is freed, and what its holder leaves to the next one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.postgres import migration
from actors.history.postgres.ingest_lock import PostgresLock, lock_address, lock_key
from actors.settings.load import Secret
from tests.kit.pooler import needs_pgbouncer, start_pgbouncer
from tests.kit.standby import start_pair
from tests.kit.stores import Database

pytestmark = pytest.mark.live

LIKE = "application_name = 'race-tracking ingest'"


@pytest.fixture
async def locks(database: Database) -> AsyncIterator[tuple[PostgresLock, PostgresLock]]:
    """Those of two nodes."""
    await migration.apply(database.connection)
    made = PostgresLock(database.address, "us", "a"), PostgresLock(database.address, "us", "b")
    for lock in made:
        await lock.connect()
    yield made
    for lock in made:
        lock.close()


async def until_ours(lock: PostgresLock) -> None:
    with trio.fail_after(30):
        while not await lock.ask(True):
            await trio.sleep(0.02)


async def test_one_has_it_until_its_session_ends(locks: tuple[PostgresLock, PostgresLock]) -> None:
    a, b = locks
    assert [await a.ask(False), await b.ask(False)] == [None, None]
    assert [await a.ask(True), await b.ask(True)] == [True, False]
    assert [await a.ask(False), await b.ask(False)] == [True, False]
    assert await a.ask(True)
    a.close()
    assert not a.connected
    await until_ours(b)
    await a.connect()
    assert await a.ask(True) is False


async def test_others_are_not_kept_out(database: Database, postgres_server: PostgresAddress) -> None:
    elsewhere = attrs.evolve(database.address, database=postgres_server.database)
    made = [
        PostgresLock(address, client_id, "a")
        for address, client_id in ((database.address, "us"), (database.address, "them"), (elsewhere, "us"))
    ]
    for lock in made:
        await lock.connect()
        assert await lock.ask(False) is None
        assert await lock.ask(True)
    for lock in made:
        lock.close()


def test_the_key_is_a_bigint_and_the_same_on_all_nodes_and_in_all_versions() -> None:
    assert lock_key("tracking-backend") == -388749939291360775
    assert all(-(2**63) <= lock_key(str(number)) < 2**63 for number in range(100))


async def test_a_session_that_was_ended_is_noticed_and_the_lock_is_free(
    locks: tuple[PostgresLock, PostgresLock], database: Database
) -> None:
    a, b = locks
    assert await a.ask(True)
    await database.run(f"select pg_terminate_backend(pid) from pg_stat_activity where {LIKE} and pid <> 0 order by pid")
    for lock in locks:
        with pytest.raises(StoreUnavailable):
            await lock.ask(True)
        assert not lock.connected
        with pytest.raises(StoreUnavailable, match="not connected"):
            await lock.ask(True)
    await b.connect()
    assert await b.ask(True)


async def test_a_holder_that_does_not_look_after_it_loses_it(locks: tuple[PostgresLock, PostgresLock]) -> None:
    """A node that is frozen: its kernel goes on answering for it."""
    a, b = locks
    assert await a.ask(True)
    await until_ours(b)
    with pytest.raises(StoreUnavailable, match="idle-session timeout"):
        await a.ask(True)


async def test_postgresql_is_told_to_give_up_on_us_soon(locks: tuple[PostgresLock, PostgresLock]) -> None:
    connection = locks[0]._connection
    assert connection is not None
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    seen = await connection.query("select " + ", ".join(f"current_setting('{name}')" for name in names))
    assert [seen.get_value(0, column) for column in range(4)] == [b"2", b"1", b"2", b"4000"]


async def test_what_the_session_of_the_broker_holds_is_handed_on(locks: tuple[PostgresLock, PostgresLock]) -> None:
    a, b = locks
    assert await a.session() is None
    for topics, granted in ((frozenset({"t/+", 'ü"\\,{}/#'}), False), (frozenset({"t/+"}), True)):
        await a.remember(topics, granted)
        assert await b.session() == (topics, granted)


async def test_without_the_table_it_says_what_is_missing(database: Database) -> None:
    lock = PostgresLock(database.address, "us", "a")
    await lock.connect()
    assert await lock.ask(True)
    with pytest.raises(StoreMisconfigured, match="tracking_sessions"):
        await lock.session()
    assert not lock.connected


async def test_what_the_table_refuses_is_its_set_up(
    locks: tuple[PostgresLock, PostgresLock], database: Database
) -> None:
    await database.run("alter table tracking_sessions add check (not granted)")
    with pytest.raises(StoreMisconfigured, match="check constraint"):
        await locks[0].remember(frozenset({"t/+"}), True)


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_pooler_is_refused(database: Database, tmp_path: Path, mode: str) -> None:
    with start_pgbouncer(tmp_path, database.address, mode) as pooler:
        lock = PostgresLock(pooler.address, "us", "a")
        with pytest.raises(StoreMisconfigured, match="lock_host must lead to PostgreSQL itself"):
            await lock.connect()
        assert not lock.connected


async def test_a_standby_gives_it_to_nobody_and_waits_for_nobody(tmp_path: Path) -> None:
    """On a hot standby everybody would get it. And the table does not wait for a synchronous one that is away."""
    with start_pair(tmp_path) as pair:
        primary, standby = (
            PostgresAddress(server.host, server.port, server.username, Secret(""), server.database)
            for server in (pair.primary, pair.standby)
        )
        with pytest.raises(StoreUnavailable, match="read-only"):
            await PostgresLock(standby, "us", "a").connect()
        lock = PostgresLock(primary, "us", "a")
        await lock.connect()
        held = PostgresLock(primary, "us", "b")
        await held.connect()
        assert held._connection is not None
        await migration.apply(held._connection)
        pair.standby.kill()
        assert await lock.ask(True)
        await lock.remember(frozenset({"t/+"}), True)
        assert await lock.session() == (frozenset({"t/+"}), True)
        lock.close()
        held.close()


def test_lock_host_names_another_way_to_the_same_database() -> None:
    pooler = PostgresAddress("pooler", 6432, "me", Secret("x"), "races", "require")
    assert lock_address(pooler, "") == pooler
    assert lock_address(pooler, "db") == attrs.evolve(pooler, host="db")
    assert lock_address(pooler, "db:5432") == attrs.evolve(pooler, host="db", port=5432)
    assert lock_address(pooler, "[::1]:5432") == attrs.evolve(pooler, host="::1", port=5432)
    assert lock_address(pooler, "::1") == attrs.evolve(pooler, host="::1")
    assert lock_address(pooler, "/run/postgresql") == attrs.evolve(pooler, host="/run/postgresql")
