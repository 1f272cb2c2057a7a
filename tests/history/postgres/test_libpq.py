"""One connection to PostgreSQL: what the tests of writer, reader and migration do not see of it."""

from __future__ import annotations

import os
import signal

import pytest
import trio

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreUnavailable
from actors.history.postgres import libpq
from tests.kit.names import Names
from tests.kit.stores import Database

pytestmark = pytest.mark.live


@pytest.mark.parametrize("stopped_at", ["begin", "commit"])
async def test_a_transaction_that_hangs_is_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    """Around what the block does there are deadlines of its own; a migration and an export have no other for these."""
    connection = await libpq.connect(database.address, "test", 10)
    pid = connection.backend_pid

    def stop(before: str) -> None:
        if before == stopped_at:
            monkeypatch.setattr(libpq, "FRAME_S", 0.3)
            os.kill(pid, signal.SIGSTOP)

    async def transact() -> None:
        stop("begin")
        async with connection.transaction():
            stop("commit")

    try:
        with trio.fail_after(30), pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"):
            await transact()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not connection.usable


async def test_a_name_server_that_does_not_answer_is_given_up() -> None:
    trio.socket.set_custom_hostname_resolver(Names([]))
    with trio.fail_after(30), pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
        await libpq.connect(PostgresAddress("postgres.example"), "test", 0.2)
