"""The servers and daemons that the outsiders' tests look at."""

from __future__ import annotations

import itertools
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from actors.core.addresses import PostgresAddress, RedisAddress
from actors.history.postgres.libpq import connect
from tests.kit.daemon import Running, external, started, write_settings
from tests.kit.outsider import Place
from tests.kit.postgres import new_database
from tests.kit.servers import Server, free_port, start_mosquitto

_REDIS_DB = itertools.count(1)
"""Redis lives as long as the test run, of all folders: each daemon has a database of its own there, of 16."""


@attrs.define(eq=False)
class World:
    """The servers that the daemons of a folder's tests share, and the daemons."""

    folder: Path
    broker: Server
    postgres: PostgresAddress
    redis: RedisAddress
    stack: ExitStack
    running: list[Running] = attrs.field(factory=list)

    def start(self, *, two_ports: bool = False, tls: Path | None = None, **sections: Mapping[str, object]) -> Place:
        """A daemon that takes fixes; it is ended with the folder's last test."""
        number = len(self.running) + 1
        folder = self.folder / str(number)
        folder.mkdir()
        topic, port = f"site{number}", free_port()
        app_port = free_port() if two_ports else port
        database = attrs.evolve(self.postgres, database=f"outside_{secrets.token_hex(4)}")
        sql(self.postgres, new_database(database.database))
        settings = external(self.broker.port, self.redis, database, port)
        settings["app"]["port"] = app_port
        settings["redis"]["db"] = next(_REDIS_DB)
        settings["mqtt"] |= {"client_id": topic, "topics": f"{topic}/+/position"}
        if tls:
            settings["tls"] = {"cert_file": tls, "key_file": tls}
        for section, keys in sections.items():
            settings.setdefault(section, {}).update(keys)
        context = ssl.create_default_context(cafile=tls) if tls else None
        running = self.stack.enter_context(started(write_settings(folder, settings), port, tls=context))
        self.running.append(running)
        running.until_ready()
        return Place(running, app_port, self.broker, topic, database)


@pytest.fixture(scope="package")
def world(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress, redis_process: tuple[RedisAddress, int]
) -> Iterator[World]:
    """Servers for the tests of a folder."""
    folder = tmp_path_factory.mktemp("outside")
    with start_mosquitto(folder) as broker, ExitStack() as stack:
        found = World(folder, broker, postgres_server, redis_process[0], stack)
        yield found
        for running in found.running:  # all at once; then the stack waits for each
            running.process.terminate()


def sql(address: PostgresAddress, *statements: str) -> None:
    """Run them, from outside of trio."""

    async def run() -> None:
        await sql_async(address, *statements)

    trio.run(run)


async def sql_async(address: PostgresAddress, *statements: str) -> None:
    """Run them."""
    connection = await connect(address, "test", 10)
    for statement in statements:
        await connection.script(statement)
    connection.close()


@asynccontextmanager
async def without_postgres(place: Place) -> AsyncIterator[None]:
    """Nobody may connect, and everybody who is connected is thrown out: as good as gone, for this daemon."""
    name = place.database.database
    admin = attrs.evolve(place.database, database="postgres")
    thrown_out = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    await sql_async(admin, f"alter database {name} with allow_connections false", thrown_out)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await sql_async(admin, f"alter database {name} with allow_connections true")
