"""What a killed daemon or a killed set-up leaves, also without a record, and what a server says that is not ready."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from actors.core.addresses import RedisAddress
from actors.core.errors import CacheUnavailable, NotStarted
from actors.embedded import process, valkey
from tests.embedded import embedded_place as at
from tests.embedded.embedded_place import WITHOUT_MOSQUITTO, Place, embedded, make_place, reachable_folder, until

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
ALL = ["mosquitto", "postgres", "valkey"]
SERVE = """
import sys
from pathlib import Path
import attrs, trio
from actors.data_dir import open_data_dir
from actors.embedded.servers import EmbeddedServers
from actors.settings.load import Settings
default = Settings()
app = attrs.evolve(default.app, data_dir=Path(sys.argv[1]))
mqtt = attrs.evolve(default.mqtt, embedded_bind=sys.argv[2])
settings = attrs.evolve(default, app=app, mqtt=mqtt)
async def serve():
    async with trio.open_nursery() as nursery:
        await nursery.start(EmbeddedServers(settings, opened).run)
        print("up", file=sys.stderr, flush=True)
with open_data_dir(Path(sys.argv[1])) as opened:
    trio.run(serve)
"""
SET_UP = """
import sys
from pathlib import Path
import trio
from actors.data_dir import open_data_dir
from actors.embedded import postgres
with open_data_dir(Path(sys.argv[1])) as opened:
    trio.run(postgres.prepare, opened.folder)
"""


@pytest.fixture
def place() -> Iterator[Place]:
    with reachable_folder() as folder, make_place(folder / "var") as made:
        yield made


@pytest.fixture
def hidden_place(tmp_path: Path) -> Iterator[Place]:
    """Where root's PostgreSQL has to live elsewhere."""
    (tmp_path / "home").mkdir(mode=0o700)
    with make_place(tmp_path / "home" / "var") as made:
        yield made


@pytest.mark.parametrize(
    ("record", "broker"), [("missing", "mosquitto"), ("nonsense", "mosquitto"), ("missing", "nats")]
)
async def test_after_kill_9_servers_without_a_record_are_ended_too(
    hidden_place: Place, record: str, broker: str
) -> None:
    place = hidden_place
    servers = sorted([broker, "postgres", "valkey"])
    serve = SERVE if broker == "mosquitto" else WITHOUT_MOSQUITTO + SERVE
    argv = [sys.executable, "-c", serve, str(place.data_dir), place.settings.mqtt.embedded_bind]
    killed = await trio.lowlevel.open_process(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=ROOT)
    assert killed.stderr is not None
    with trio.fail_after(60):
        told = b""
        while b"up" not in told.split():
            more = await killed.stderr.receive_some()
            assert more, told
            told += more
    first = {name: place.pid(name) for name in servers}
    killed.kill()
    await killed.wait()
    for path in place.data_dir.glob("*.pid"):
        if record == "missing":
            path.unlink()
        else:
            path.write_text("\0nonsense\n")
    async with embedded(place) as where:
        assert place.servers() == ALL
        assert {place.pid(name) for name in ALL}.isdisjoint(first.values())
        assert at.sql(where.postgres, "SELECT 1") == [(1,)]


async def test_kill_9_in_the_middle_of_the_first_start(hidden_place: Place) -> None:
    place = hidden_place
    for _ in range(2):
        daemon = await trio.lowlevel.open_process(
            [sys.executable, "-c", SET_UP, str(place.data_dir)],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )
        await until(lambda: any(at.postgres_folder(place.data_dir).glob("new.*/data/base/1")))
        daemon.kill()
        await daemon.wait()
        async with embedded(place.only("redis")):
            assert set_ups(place) == []
    async with embedded(place.only("postgres")) as where:
        assert at.sql(where.postgres, "SELECT current_database()") == [("tracking",)]
    assert {path.name for path in at.postgres_folder(place.data_dir).iterdir()} == {"data", "socket"}


def set_ups(place: Place) -> list[str]:
    """Command lines of each initdb that works on this data_dir."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode("utf-8", "replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "initdb" in line and str(at.postgres_folder(place.data_dir)) in line:
            found.append(line)
    return found


async def test_only_servers_of_this_data_dir_are_ended(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    data_dir.mkdir()

    def pretend(program: str, argument: str) -> subprocess.Popen[bytes]:
        """A shell that waits for its stdin and looks like another program."""
        argv = [program, "-c", "read -r line", argument]
        return subprocess.Popen(
            argv,
            executable="/bin/sh",
            stdin=subprocess.PIPE,
            start_new_session=True,
            # Tests that a shell runs in the background ignore SIGINT, and so would this.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    ours = [
        pretend("/usr/sbin/mosquitto", f"{data_dir}/broker/mosquitto.conf"),
        pretend("/venv/bin/nats-server", f"{data_dir}/broker/nats.conf"),
        pretend("/venv/bin/postgres", f"{data_dir}/postgres/data"),
        pretend("/venv/valkey-server unixsocket:" + f"{data_dir}/valkey.sock", "x"),
    ]
    others = [
        pretend("less", f"{data_dir}/broker/mosquitto.conf"),
        pretend("mosquitto", f"{data_dir}2/broker/mosquitto.conf"),
        pretend("mosquitto", f"/chroot{data_dir}/broker/mosquitto.conf"),
    ]
    try:
        with trio.fail_after(60):
            await process.end_leftovers(data_dir)
        assert [mine.poll() for mine in ours] == [-signal.SIGTERM, -signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM]
        assert [other.poll() for other in others] == [None] * 3
    finally:
        for child in (*ours, *others):
            child.communicate()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"+OK\r\n-LOADING Valkey is loading the dataset in memory\r\n", "LOADING"),
        (b"-WRONGPASS invalid\r\n-NOAUTH Authentication required.\r\n", "WRONGPASS"),
        (b"+OK\r\n", "OK"),
    ],
)
async def test_a_valkey_that_cannot_serve_yet_says_so(tmp_path: Path, said: bytes, told: str) -> None:
    path = tmp_path / "s"
    with trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(str(path))
        listening.listen()

        async def serve(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(said)
            if said.count(b"\n") < 2:
                await stream.aclose()
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
            with trio.fail_after(30), pytest.raises(CacheUnavailable, match=told):
                await valkey.answers(RedisAddress(socket_path=str(path)))
            nursery.cancel_scope.cancel()


async def test_a_postgres_that_refuses_our_password_is_not_waited_for(place: Place) -> None:
    place = place.only("postgres")
    async with embedded(place):
        pass
    (place.data_dir / "postgres_password").write_text("another")
    with trio.fail_after(60):
        with pytest.RaisesGroup(
            pytest.RaisesExc(NotStarted, match="password authentication failed"), flatten_subgroups=True
        ):
            async with embedded(place):
                pass
