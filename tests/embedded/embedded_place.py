"""What the tests of the embedded servers share: a place for data_dir, the actor running there, and who is alive."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import psycopg
import trio

from actors.core.addresses import BrokerAddress, PostgresAddress, RedisAddress, Secret
from actors.data_dir import digest, open_data_dir
from actors.embedded.addresses import Addresses
from actors.embedded.servers import EmbeddedServers
from actors.settings.load import Settings
from tests.kit.servers import free_port

ROOT = Path(__file__).parents[2]
WITHOUT_MOSQUITTO = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from actors.embedded import broker
broker.find_mosquitto = lambda: None
"""
"""Of a program, its first lines: on a machine like this one without mosquitto."""
SUPERVISOR_WITHOUT_MOSQUITTO = f"""{WITHOUT_MOSQUITTO}
from actors.commands.parser import main
from supervisor import serve
sys.exit(main(sys.argv[1:], serve))
"""
STRANGER = 54_321
"""A uid that owns nothing and is nobody."""


@attrs.define
class Place:
    """A data_dir, and settings for it that name a free port."""

    data_dir: Path
    settings: Settings

    def only(self, *kinds: str) -> Place:
        """With these of broker, redis, postgres embedded; the others are external and not there."""
        cfg = self.settings
        if "broker" not in kinds:
            cfg = attrs.evolve(cfg, mqtt=attrs.evolve(cfg.mqtt, broker_url="mqtt://127.0.0.1"))
        if "redis" not in kinds:
            cfg = attrs.evolve(cfg, redis=attrs.evolve(cfg.redis, host="127.0.0.1"))
        if "postgres" not in kinds:
            cfg = attrs.evolve(cfg, postgres=attrs.evolve(cfg.postgres, host="127.0.0.1"))
        return Place(self.data_dir, cfg)

    def broker_login(self, username: str, password: str) -> Place:
        """With a login for the embedded broker."""
        mqtt = attrs.evolve(self.settings.mqtt, username=username, password=Secret(password))
        return Place(self.data_dir, attrs.evolve(self.settings, mqtt=mqtt))

    def pid(self, name: str) -> int:
        """From the record of a running server; 0 while there is none."""
        try:
            return int((self.data_dir / f"{name}.pid").read_text().split("\n")[1].split()[0])
        except (FileNotFoundError, IndexError):
            return 0

    def servers(self) -> list[str]:
        """Names of the server processes that work on this data_dir, one for each server.

        A child that PostgreSQL has just forked still shows its parent's command line, so children do not count.
        """
        found: dict[int, tuple[str, int]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    argv = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                    parent = int((folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
                except (FileNotFoundError, ProcessLookupError):
                    continue
                for name, mark in self.marks().items():
                    if any(mark in part for part in argv):
                        found[int(folder.name)] = (name, parent)
        return sorted(name for name, parent in found.values() if parent not in found)

    def marks(self) -> dict[str, str]:
        """What only the command line of that server has in it."""
        return {
            "mosquitto": str(self.data_dir / "broker" / "mosquitto.conf"),
            "nats": str(self.data_dir / "broker" / "nats.conf"),
            "postgres": str(postgres_folder(self.data_dir) / "data"),
            "valkey": str(self.data_dir / "valkey.sock"),  # Valkey shows its socket in its title
        }


def postgres_folder(data_dir: Path) -> Path:
    """Where PostgreSQL lives: in data_dir, or where a file in it says."""
    record = data_dir / "postgres_home"
    return Path(record.read_text().strip()) if record.exists() else data_dir / "postgres"


@contextmanager
def make_place(data_dir: Path) -> Iterator[Place]:
    """A place; everything that the servers made for it outside of it is removed."""
    default = Settings()
    settings = attrs.evolve(
        default,
        app=attrs.evolve(default.app, data_dir=data_dir),
        mqtt=attrs.evolve(default.mqtt, embedded_bind=f"127.0.0.1:{free_port()}"),
    )
    try:
        yield Place(data_dir, settings)
    finally:
        home = postgres_folder(data_dir)
        if home.parent != data_dir:
            shutil.rmtree(home.parent)
        for made in Path("/tmp").glob(f"race-tracking-*-{digest(data_dir)}"):
            shutil.rmtree(made)


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A new folder that every user can pass into, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="tracking-test-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def embedded(place: Place) -> AsyncIterator[Addresses]:
    """The actor with its servers up; all of them are gone afterwards."""
    with open_data_dir(place.data_dir) as data_dir:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(60):
                where: Addresses = await nursery.start(EmbeddedServers(place.settings, data_dir).run)
            yield where
            nursery.cancel_scope.cancel()
    assert place.servers() == []


def sql(where: PostgresAddress, statement: str) -> list[tuple[object, ...]]:
    """Run one statement; its rows."""
    with psycopg.connect(
        host=where.host,
        port=where.port,
        user=where.user,
        password=where.password.reveal(),
        dbname=where.database,
        autocommit=True,
        connect_timeout=10,
    ) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


async def redis(where: RedisAddress, *commands: tuple[str, ...], password: str | None = None) -> list[str]:
    """Reply lines to AUTH and these commands, whose words have no blanks."""
    login = ("AUTH", where.password.reveal() if password is None else password)
    told = "".join(f"{' '.join(command)}\r\n" for command in (login, *commands, ("QUIT",))).encode()
    async with await trio.open_unix_socket(where.socket_path) as stream:
        await stream.send_all(told)
        return b"".join([part async for part in stream]).decode().split("\r\n")


async def publish(where: BrokerAddress, topic: str, text: str, *options: str) -> int:
    """One message at QoS 1 by mosquitto_pub; its exit code."""
    argv = ["mosquitto_pub", "-h", where.host, "-p", str(where.port), "-q", "1", "-t", topic, "-m", text, *options]
    return (await trio.run_process(argv, check=False, capture_stderr=True)).returncode


async def check_login(place: Place, username: str, password: str) -> None:
    """The embedded broker lets in who knows both, and nobody else."""
    async with embedded(place.broker_login(username, password)) as where:
        assert (where.broker.username, where.broker.password) == (username, Secret(password))
        assert await publish(where.broker, "t", "x", "-u", username, "-P", password) == 0
        assert await publish(where.broker, "t", "x", "-u", username, "-P", password + "x") != 0
        assert await publish(where.broker, "t", "x", "-u", username) != 0
        assert await publish(where.broker, "t", "x") != 0


async def receive(where: BrokerAddress, topic: str, *options: str) -> bytes:
    """The next message, or the retained one, by mosquitto_sub."""
    argv = ["mosquitto_sub", "-h", where.host, "-p", str(where.port), "-q", "1", "-t", topic, "-C", "1", "-W", "20"]
    return (await trio.run_process([*argv, *options], capture_stdout=True)).stdout


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """For what other processes do, of which nobody tells us."""
    with trio.fail_after(seconds):
        while True:
            if condition():
                return
            await trio.sleep(0.02)


def modes(*folders: Path) -> dict[Path, tuple[str, int, int]]:
    """Mode and owner of these folders and of all above them."""
    found = {}
    for folder in folders:
        for part in (folder, *folder.parents, *folder.resolve().parents):
            told = os.stat(part)
            found[part] = (stat.filemode(told.st_mode), told.st_uid, told.st_gid)
    return found
