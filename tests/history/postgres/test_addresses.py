"""Several servers, by one name or by a list: who writes wants the one that can be written, who reads prefers it."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
import trio

from actors.core.addresses import Address, PostgresAddress
from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.postgres import reader
from actors.history.postgres.libpq import connect
from actors.history.postgres.reader import PostgresHistory
from actors.history.postgres.writer import PostgresWriter
from actors.settings.load import Secret
from tests.kit.making import make_fix
from tests.kit.names import Names
from tests.kit.standby import Pair, sql, start_pair

pytestmark = pytest.mark.live

STANDBY, PRIMARY = "127.0.0.2", "127.0.0.1"
REPLAYED = """
select 1 where to_regclass('tracking_positions') is not null and pg_last_wal_replay_lsn() = pg_last_wal_receive_lsn()"""
WHO = "select application_name from pg_stat_activity where application_name like 'race-tracking%'"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """On one port of two addresses."""
    with start_pair(tmp_path_factory.mktemp("pair")) as made:
        made.standby.kill()
        made.standby.host, made.standby.port = STANDBY, made.primary.port
        made.standby.argv = [
            *made.standby.argv,
            f"--listen_addresses={STANDBY}",
            f"--port={made.primary.port}",
        ]
        made.attach()
        yield made


def named(pair: Pair, *addresses: str) -> PostgresAddress:
    trio.socket.set_custom_hostname_resolver(Names(list(addresses)))
    server = pair.primary
    return PostgresAddress("db.example.org", server.port, server.username, Secret(""), server.database)


async def test_a_standby_that_answers_first_does_not_end_the_writers_search(pair: Pair) -> None:
    address = named(pair, "127.0.0.3", STANDBY, PRIMARY)
    writer, history = PostgresWriter(address), PostgresHistory(address)
    fix = make_fix()
    assert await writer.store([fix]) == 1
    with trio.fail_after(30):
        while not sql(pair.standby, REPLAYED):
            await trio.sleep(0.02)
    assert await history.newest("R1", 0) == [fix]
    assert sorted(sql(pair.primary, WHO)) == [("race-tracking reader",), ("race-tracking writer",)]
    assert sql(pair.standby, WHO) == []
    await writer.aclose()
    await history.aclose()


async def test_a_list_of_servers_is_tried_in_turn(pair: Pair) -> None:
    server = pair.primary
    others = (Address("nowhere.invalid", 1), Address(STANDBY, server.port), Address(PRIMARY, server.port))
    address = PostgresAddress("127.0.0.3", server.port, server.username, Secret(""), server.database, others=others)
    writer = PostgresWriter(address)
    assert await writer.store([make_fix(at_s=7)]) == 1
    await writer.aclose()
    without = PostgresWriter(attrs.evolve(address, others=others[:2]))
    why = r"127\.0\.0\.3:\d+: .*refused.*; nowhere\.invalid:1: cannot resolve.*; 127\.0\.0\.2:\d+: .*is read-only"
    with pytest.raises(StoreUnavailable, match=why):
        await without.ping()
    wrong = attrs.evolve(address, database="nowhere", others=())
    with pytest.raises(StoreUnavailable, match="refused"):  # not the set-up of all
        await connect(attrs.evolve(wrong, others=others[2:]), "test", 10)


async def test_a_standby_is_read_while_no_primary_answers_and_not_for_longer(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "IDLE_S", 0.2)
    address = named(pair, PRIMARY, STANDBY)
    writer, history = PostgresWriter(address), PostgresHistory(address)
    await writer.store([make_fix(at_s=8)])
    with trio.fail_after(30):
        while not sql(pair.standby, REPLAYED):
            await trio.sleep(0.02)
    pair.primary.sigstop()
    try:
        assert make_fix(at_s=8) in await history.newest("R1", 0)
    finally:
        pair.primary.sigcont()
    with trio.fail_after(30):
        while ("race-tracking reader",) not in sql(pair.primary, WHO):
            await history.newest("R1", 0)
            await trio.sleep(0.05)
    await writer.aclose()
    await history.aclose()


async def test_what_every_address_says_is_told(pair: Pair) -> None:
    writer = PostgresWriter(named(pair, "127.0.0.3", STANDBY))
    with pytest.raises(
        StoreUnavailable, match=r"127\.0\.0\.3.*refused.*127\.0\.0\.2: database 'postgres' is read-only"
    ):
        await writer.ping()
    unknown = attrs.evolve(named(pair, "127.0.0.3", PRIMARY), database="nowhere")
    with pytest.raises(StoreMisconfigured, match=r"refused.*\"nowhere\" does not exist"):
        await connect(unknown, "test", 10)


async def test_after_a_fail_over_the_other_address_is_written(pair: Pair) -> None:
    writer = PostgresWriter(named(pair, PRIMARY, STANDBY))
    assert await writer.store([make_fix(at_s=1)]) == 1
    pair.primary.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await writer.store([make_fix(at_s=2)])
    sql(pair.standby, "select pg_promote()")
    assert await writer.store([make_fix(at_s=1), make_fix(at_s=2)]) == 1
    await writer.aclose()
