"""Servers for benchmarks: those of the tests, but with what would distort a measurement put right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from actors.drivers.addresses import PostgresAddress, RedisAddress
from actors.drivers.libpq import connect
from actors.settings import Secret
from tests.servers import Server, start_mosquitto, start_postgres, start_redis


@attrs.frozen
class Site:
    """A broker, PostgreSQL and Valkey on 127.0.0.1, without passwords."""

    broker: Server
    postgres: Server
    redis: Server

    @property
    def redis_address(self) -> RedisAddress:
        return RedisAddress(password=Secret(""), port=self.redis.port)

    def database(self, name: str) -> PostgresAddress:
        """The address of a database."""
        return PostgresAddress(self.postgres.host, self.postgres.port, self.postgres.username, Secret(""), name)

    async def new_database(self, name: str, schema: str = "") -> PostgresAddress:
        """Made afresh, with this SQL applied."""
        await self.run("postgres", f"drop database if exists {name} with (force)")
        await self.run("postgres", f"create database {name}")
        if schema:
            await self.run(name, schema)
        return self.database(name)

    async def run(self, database: str, sql: str) -> None:
        """SQL over a connection of its own."""
        connection = await connect(self.database(database), "benchmark", 10)
        try:
            await connection.script(sql)
        finally:
            connection.close()


@contextmanager
def start_site(folder: Path) -> Iterator[Site]:
    """The broker does not log each packet, PostgreSQL syncs as in production."""
    with ExitStack() as stack:
        servers = []
        for start in (start_mosquitto, start_postgres, start_redis):
            own = folder / start.__name__
            own.mkdir(parents=True)
            servers.append(stack.enter_context(start(own)))
        site = Site(*servers)
        site.broker.stop()
        site.broker.argv = [part for part in site.broker.argv if part != "-v"]
        site.broker.start()
        site.postgres.stop()
        site.postgres.argv = [*site.postgres.argv, "--fsync=on", "--shared_buffers=256MB"]
        site.postgres.start()
        yield site
