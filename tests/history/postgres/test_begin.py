"""What somebody else left in a session does not count in our transactions; the pool itself: test_pooler.py."""

from __future__ import annotations

import pytest

from actors.history.postgres.begin import SERVER_SIDE_S
from actors.history.postgres.table_check import texts
from tests.kit.stores import Database

pytestmark = pytest.mark.live

LEFT = "set search_path = pg_catalog; set synchronous_commit = off; set statement_timeout = 1; set lock_timeout = 1"
SEEN = """select current_setting('search_path'), current_setting('synchronous_commit'),
  current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('transaction_isolation')"""


async def test_settings_of_the_session_do_not_count(database: Database) -> None:
    await database.run(LEFT)
    connection = database.connection
    async with connection.transaction():
        assert await texts(connection, SEEN) == [
            ['"$user", public', "on", f"{SERVER_SIDE_S * 1000:.0f}ms", "0", "read committed"]
        ]
    assert (await connection.query("show statement_timeout")).get_value(0, 0) == b"9500ms"
    assert await texts(connection, "select current_setting('statement_timeout')") != [["1ms"]]
