"""The writer and a synchronous standby that is away: nothing counts as there before the standby has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import trio

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreUnavailable
from actors.core.rejection import Rejection
from actors.history.postgres import libpq
from actors.history.postgres.writer import PostgresWriter
from actors.settings.load import Secret
from tests.kit.making import BASE_MS, make_fix
from tests.kit.standby import NAME, Pair, sql, start_pair

pytestmark = pytest.mark.live

RIGHTS = """
create role tracker login;
grant select, insert on tracking_positions to tracker;
grant select, insert, delete on tracking_rejections to tracker;
grant select on tracking_participant_counts to tracker
"""
CANCEL = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with start_pair(tmp_path_factory.mktemp("pair")) as made:
        yield made


@pytest.fixture
async def tracker(pair: Pair) -> AsyncIterator[PostgresWriter]:
    """A writer with the rights of the README and no more, connected while the standby is there."""
    if pair.standby.process is None:
        pair.attach()
    server = pair.primary
    owner = PostgresWriter(PostgresAddress(server.host, server.port, server.username, Secret(""), server.database))
    await owner.ping()
    await owner.aclose()
    if not sql(server, "select 1 from pg_roles where rolname = 'tracker'"):
        sql(server, RIGHTS)
    writer = PostgresWriter(PostgresAddress(server.host, server.port, "tracker", Secret(""), server.database))
    await writer.ping()
    yield writer
    await writer.aclose()


async def until_a_commit_waits(pair: Pair) -> None:
    with trio.fail_after(30):
        while not pair.commits_waiting():
            await trio.sleep(0.02)


Write = Callable[[PostgresWriter, int], Awaitable[object]]


async def fixes(writer: PostgresWriter, number: int) -> int:
    return await writer.store([make_fix("known", number), make_fix("known", number + 0.5)], 60)


async def rejections(writer: PostgresWriter, number: int) -> int:
    return await writer.reject([Rejection(bytes([number]) * 16, BASE_MS, "t", b"{", "bad_json", "x")], 60)


@pytest.mark.parametrize("write", [fixes, rejections])
async def test_what_is_there_already_waits_as_new_rows_do(pair: Pair, tracker: PostgresWriter, write: Write) -> None:
    """Who was there first may have been cut short while it waited."""
    new = await write(tracker, 1)
    pair.standby.kill()
    answers: list[object] = []

    async def again() -> None:
        answers.append(await write(tracker, 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(again)
        await until_a_commit_waits(pair)
        assert answers == []
        pair.attach()
    assert (new, answers) in [(2, [0]), (1, [0])]


@pytest.mark.parametrize("write", [fixes, rejections])
async def test_a_wait_that_was_cut_short_is_no_success(pair: Pair, tracker: PostgresWriter, write: Write) -> None:
    pair.standby.kill()
    for _ in ("new", "there already"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_is_unavailable, lambda: write(tracker, 2), "standby")
            await until_a_commit_waits(pair)
            sql(pair.primary, CANCEL)


async def test_what_a_write_waits_for_is_said_until_it_is_there(pair: Pair, tracker: PostgresWriter) -> None:
    pair.standby.kill()
    with pytest.raises(StoreUnavailable):
        await tracker.store([make_fix("named")], 1.5)
    why = rf"waits for a synchronous standby \(synchronous_standby_names = '{NAME}', 0 attached\)"
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=why):
            await tracker.ping()
        with pytest.raises(StoreUnavailable, match=why):
            await tracker.store([make_fix("named")])
    assert pair.commits_waiting() == 1, "no more sessions than one hang"
    pair.attach()
    assert await tracker.store([make_fix("named"), make_fix("named", 1)]) == 1


async def test_a_schema_that_waits_for_the_standby_says_so_too(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made at the first connect, for which an hour is allowed."""
    server = pair.primary
    sql(server, "create database fresh")
    pair.standby.kill()
    monkeypatch.setattr(libpq, "FRAME_S", 1.5)
    writer = PostgresWriter(PostgresAddress(server.host, server.port, server.username, Secret(""), "fresh"))
    with trio.fail_after(30):
        for why in ("did not answer", "waits for a synchronous standby"):
            with pytest.raises(StoreUnavailable, match=why):
                await writer.ping()
    pair.attach()
    assert await writer.store([make_fix()]) == 1
    await writer.aclose()


async def _is_unavailable(call: Callable[[], Awaitable[object]], why: str) -> None:
    with pytest.raises(StoreUnavailable, match=why):
        await call()
