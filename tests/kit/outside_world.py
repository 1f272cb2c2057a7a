"""The servers and daemons that the outsiders' tests look at."""

from __future__ import annotations

import itertools
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import pytest
import trio

from actors.core.addresses import PostgresAddress, RedisAddress
from actors.history.postgres.libpq import connect
from tests.kit.daemon import START_S, SUPERVISOR, external, write_settings
from tests.kit.outsider import Place
from tests.kit.postgres import new_database
from tests.kit.servers import Server, free_port, start_mosquitto
from tests.kit.tokens import SECRET

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
    processes: list[subprocess.Popen[bytes]] = attrs.field(factory=list)

    def start(self, *, two_ports: bool = False, tls: Path | None = None, **sections: Mapping[str, object]) -> Place:
        """A daemon that takes fixes; it is ended with the folder's last test."""
        number = len(self.processes) + 1
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
        settings["ws"]["auth_secret"] = SECRET
        if tls:
            settings["tls"] = {"cert_file": tls, "key_file": tls}
        for section, keys in sections.items():
            settings.setdefault(section, {}).update(keys)
        process, log = self.stack.enter_context(_process(write_settings(folder, settings)))
        self.processes.append(process)
        client = ssl.create_default_context(cafile=tls) if tls else None
        place = Place(port, app_port, self.broker, topic, process, log, database, client)
        trio.run(_until_ready, place)
        return place


@pytest.fixture(scope="package")
def world(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress, redis_process: tuple[RedisAddress, int]
) -> Iterator[World]:
    """Servers for the tests of a folder."""
    folder = tmp_path_factory.mktemp("outside")
    with start_mosquitto(folder) as broker, ExitStack() as stack:
        found = World(folder, broker, postgres_server, redis_process[0], stack)
        yield found
        for process in found.processes:  # all at once; then the stack waits for each
            process.terminate()


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


@contextmanager
def _process(settings: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = settings.parent / "daemon.log"
    with log.open("ab") as output:
        argv = [sys.executable, SUPERVISOR, "--settings", str(settings)]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


async def _until_ready(place: Place) -> None:
    with trio.fail_after(START_S):
        while True:
            assert place.process.poll() is None, place.log.read_text()[-3000:]
            try:
                if (await place.request("/readyz/ingest")).status == 200:
                    return
            except OSError:
                pass  # does not listen yet
            await trio.sleep(0.05)
