"""PostgreSQL and Valkey for the drivers' tests: one of each a test run, a database of its own a test."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest
import trio

from actors.core.addresses import PostgresAddress, RedisAddress
from actors.history.postgres.libpq import PostgresConnection, connect
from actors.history.postgres.table_check import texts
from actors.history.postgres.writer import PostgresWriter
from actors.settings.load import Secret
from tests.kit.postgres import new_database, start_postgres
from tests.kit.servers import start_redis

PASSWORD = "not$a'secret\\ really"
COUNT = "select count(*)::text from tracking_positions"


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresAddress]:
    """A running server that asks for a password; its superuser's login, and the database `postgres`."""
    with start_postgres(tmp_path_factory.mktemp("postgres")) as server:
        address = PostgresAddress(server.host, server.port, server.username, Secret(PASSWORD), server.database)

        async def ask_for_the_password() -> None:
            admin = await connect(address, "test", 10)
            quoted = PASSWORD.replace("'", "''")
            await admin.script(f"alter user postgres password '{quoted}'")
            (server.folder / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
            await admin.script("select pg_reload_conf()")
            admin.close()

        trio.run(ask_for_the_password)
        yield address


@attrs.define
class Database:
    """An empty database; `run` and `rows` go over a connection of the test's own."""

    address: PostgresAddress
    connection: PostgresConnection

    async def run(self, sql: str) -> None:
        await self.connection.script(sql)

    async def rows(self, sql: str) -> list[list[str]]:
        """All columns must be text and not null."""
        return await texts(self.connection, sql)


@pytest.fixture
async def database(postgres_server: PostgresAddress) -> AsyncIterator[Database]:
    admin = await connect(postgres_server, "test", 10)
    name = f"tracking_{secrets.token_hex(4)}"
    await admin.script(new_database(name))
    address = attrs.evolve(postgres_server, database=name)
    connection = await connect(address, "test", 10)
    yield Database(address, connection)
    connection.close()
    await admin.script(f"drop database {name} with (force)")
    admin.close()


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisAddress, int]]:
    """Address and process id; it listens on a Unix socket too, whose path must be short."""
    folder = tmp_path_factory.mktemp("redis")
    with tempfile.TemporaryDirectory() as short, start_redis(folder, password=PASSWORD) as server:
        server.stop()
        server.argv = [*server.argv, "--unixsocket", str(Path(short) / "s")]
        server.start()
        yield RedisAddress(password=Secret(PASSWORD), port=server.port), server.pid


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[PostgresWriter]:
    writer = PostgresWriter(database.address)
    await writer.ping()
    yield writer
    await writer.aclose()
