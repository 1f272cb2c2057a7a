"""The embedded servers: they start, keep what they were given, come back when they end, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import attrs
import psycopg
import pytest
import trio

from actors.core.addresses import BrokerAddress, PostgresAddress, RedisAddress, Secret
from actors.core.errors import NotStarted
from actors.data_dir import DataDir
from actors.embedded.addresses import addresses, broker_address, postgres_address, redis_address
from actors.embedded.servers import EmbeddedServers
from actors.settings.load import Settings
from tests.embedded import embedded_place as at
from tests.embedded.embedded_place import Place, embedded, make_place, reachable_folder, until

pytestmark = pytest.mark.live

ALL = ["mosquitto", "postgres", "valkey"]


@pytest.fixture
def place() -> Iterator[Place]:
    with reachable_folder() as folder, make_place(folder / "var") as made:
        yield made


async def test_all_of_them_keep_their_data_over_a_restart(place: Place) -> None:
    async with embedded(place) as where:
        assert place.servers() == ALL
        assert where == addresses(place.settings)
        assert at.sql(where.postgres, "SELECT current_database(), current_setting('fsync')") == [("tracking", "on")]
        at.sql(where.postgres, "CREATE TABLE kept AS SELECT 'P001' AS id")
        assert "+OK" in await at.redis(where.redis, ("SET", "kept", "P002"))
        assert await at.publish(where.broker, "kept", "P003", "-r") == 0
        passwords = [where.postgres.password, where.redis.password]
    async with embedded(place) as where:
        assert at.sql(where.postgres, "SELECT id FROM kept") == [("P001",)]
        assert "P002" in await at.redis(where.redis, ("GET", "kept"))
        assert await at.receive(where.broker, "kept") == b"P003\n"
        assert [where.postgres.password, where.redis.password] == passwords


async def test_valkey_never_evicts_and_the_broker_acknowledges_what_it_keeps(place: Place) -> None:
    async with embedded(place.only("broker", "redis")) as where:
        assert "noeviction" in await at.redis(where.redis, ("CONFIG", "GET", "maxmemory-policy"))
        # A session that is away; what is queued for it was acknowledged to the publisher.
        session = ("-i", "away", "-c")
        assert await at.receive(where.broker, "t", *session, "-E") == b""  # it leaves as soon as it is subscribed
        assert await at.publish(where.broker, "t", "for later") == 0
        # Longer than autosave_interval, which mosquitto counts in seconds.
        database = place.data_dir / "broker" / "mosquitto.db"
        await until(lambda: database.exists() and b"for later" in database.read_bytes())
        await kill("mosquitto", place)
        assert await at.receive(where.broker, "t", *session) == b"for later\n"


async def kill(name: str, place: Place) -> None:
    """SIGKILL it, and wait until it was started again and answers."""
    killed = place.pid(name)
    os.kill(killed, signal.SIGKILL)
    await until(lambda: place.pid(name) not in (killed, 0))
    await until(lambda: answers(name, place))


@pytest.mark.parametrize("name", ALL)
async def test_one_that_is_killed_comes_back_with_its_data(name: str, place: Place) -> None:
    kind = {"mosquitto": "broker", "valkey": "redis", "postgres": "postgres"}[name]
    place = place.only(kind)
    async with embedded(place) as where:
        if kind == "postgres":
            at.sql(where.postgres, "CREATE TABLE kept AS SELECT 1 AS one")
        await kill(name, place)
        assert place.servers() == [name]
        if kind == "postgres":
            assert at.sql(where.postgres, "SELECT one FROM kept") == [(1,)]


def answers(name: str, place: Place) -> bool:
    """It takes connections, and PostgreSQL sessions."""
    if name == "postgres":
        try:
            at.sql(postgres_address(place.settings), "SELECT 1")
        except (psycopg.OperationalError, NotStarted):
            return False
        return True
    unix = name == "valkey"
    broker = broker_address(place.settings)
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
        return probe.connect_ex(str(place.data_dir / "valkey.sock") if unix else (broker.host, broker.port)) == 0


async def test_one_that_cannot_come_back_yet_is_tried_again(place: Place) -> None:
    place = place.only("broker")
    async with embedded(place) as where:
        config = place.data_dir / "broker"
        away = place.data_dir / "broker-away"
        os.rename(config, away)
        config.write_text("in the way")
        os.kill(place.pid("mosquitto"), signal.SIGKILL)
        await until(lambda: place.pid("mosquitto") == 0)
        await trio.sleep(1.5)  # two attempts
        os.unlink(config)
        os.rename(away, config)
        await until(lambda: place.pid("mosquitto") != 0)
        await until(lambda: answers("mosquitto", place))
        assert await at.publish(where.broker, "t", "x") == 0


async def test_only_what_settings_ask_for_is_started(place: Place) -> None:
    async with embedded(place.only("redis")) as where:
        assert place.servers() == ["valkey"]
        assert where.broker == BrokerAddress("127.0.0.1", 1883)
        assert where.postgres.host == "127.0.0.1"


async def test_a_database_of_another_name_and_a_redis_database_beyond_the_usual(place: Place) -> None:
    cfg = place.settings
    cfg = attrs.evolve(cfg, postgres=attrs.evolve(cfg.postgres, database='Läufe "25"'))
    cfg = attrs.evolve(cfg, redis=attrs.evolve(cfg.redis, db=40))
    async with embedded(Place(place.data_dir, cfg).only("postgres", "redis")) as where:
        assert at.sql(where.postgres, "SELECT current_database()") == [('Läufe "25"',)]
        assert (await at.redis(where.redis, ("SELECT", "40")))[:2] == ["+OK", "+OK"]


@pytest.mark.parametrize("name", ["Läufe, 'my' \"own\" \\ ones", "d" * 90])
async def test_a_data_dir_with_any_name(name: str) -> None:
    with reachable_folder() as folder, make_place(folder / name) as place:
        async with embedded(place) as where:
            assert at.sql(where.postgres, "SELECT 1") == [(1,)]
            assert "+PONG" in await at.redis(where.redis, ("PING",))
            assert await at.publish(where.broker, "t", "x") == 0


async def test_a_set_up_that_was_cut_short_is_done_again(place: Place) -> None:
    half = place.data_dir / "postgres" / "new.abc" / "data"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    async with embedded(place.only("postgres")) as where:
        assert at.sql(where.postgres, "SELECT 1") == [(1,)]
    left = {path.name for path in (place.data_dir / "postgres").iterdir()}
    assert left == {"data", "socket"}


async def test_a_lock_file_whose_pid_is_another_program_now(place: Place) -> None:
    place = place.only("postgres")
    async with embedded(place):
        path = at.postgres_folder(place.data_dir) / "data" / "postmaster.pid"
        _, *lines = path.read_text().split("\n")
    owner = os.stat(path.parent)
    # Of the same user: a process that it may not signal, and its parent, PostgreSQL leaves out of account itself.
    as_owner = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    async with trio.open_nursery() as nursery:
        other: trio.Process = await nursery.start(
            partial(trio.run_process, ["/bin/sleep", "60"], check=False, **as_owner)
        )
        path.write_text("\n".join([str(other.pid), *lines]))
        os.chown(path, owner.st_uid, owner.st_gid)
        async with embedded(place) as where:
            assert at.sql(where.postgres, "SELECT 1") == [(1,)]
        assert other.poll() is None
        nursery.cancel_scope.cancel()


# --- what cannot be started ------------------------------------------------------------------------------------


async def refusal(place: Place) -> str:
    """What the operator is told."""
    place.data_dir.mkdir(mode=0o700, exist_ok=True)
    servers = EmbeddedServers(place.settings, DataDir(place.data_dir))
    with pytest.RaisesGroup(NotStarted, flatten_subgroups=True) as caught, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(servers.run)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


async def test_a_taken_port(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        mqtt = attrs.evolve(place.settings.mqtt, embedded_bind=bind)
        told = await refusal(Place(place.data_dir, attrs.evolve(place.settings, mqtt=mqtt)))
    assert told == (
        f"the embedded broker cannot listen on {bind} (Address already in use): stop what uses that port, set another "
        "[mqtt] embedded_bind, or set broker_url to the broker that runs there"
    )
    assert place.servers() == []


async def test_one_that_ends_at_once_shows_its_log(place: Place) -> None:
    place = place.only("postgres")
    async with embedded(place):
        pass
    with (place.data_dir / "postgres" / "data" / "postgresql.conf").open("a") as config:
        config.write("\nno_such_setting = 1\n")
    told = await refusal(place)
    assert told.startswith(f"embedded postgres ended; the end of {place.data_dir}/postgres.log:\n  | ")
    assert 'unrecognized configuration parameter "no_such_setting"' in told


async def test_programs_that_cannot_be_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.embedded.postgres_home.binaries", lambda _home: Path("/nowhere"))
    assert "PostgreSQL could not be set up for data_dir" in await refusal(place.only("postgres"))


def test_commands_say_when_the_daemon_does_not_run(place: Place) -> None:
    place.data_dir.mkdir()
    with pytest.raises(NotStarted, match=r"PostgreSQL of .* was not set up yet: start the daemon once"):
        postgres_address(place.settings)
    with pytest.raises(NotStarted, match=r"Valkey of .* was not set up yet: start the daemon once"):
        redis_address(place.settings)


async def test_commands_say_when_the_daemon_does_not_run_any_more(place: Place) -> None:
    async with embedded(place):
        pass
    with pytest.raises(NotStarted, match=r"embedded PostgreSQL of .* is not running"):
        postgres_address(place.settings)
    with pytest.raises(NotStarted, match=r"embedded Valkey of .* is not running"):
        redis_address(place.settings)


def test_external_servers_are_taken_from_settings() -> None:
    default = Settings()
    settings = attrs.evolve(
        default,
        mqtt=attrs.evolve(default.mqtt, broker_url="mqtts://b.example", username="u", password=Secret("p")),
        redis=attrs.evolve(default.redis, host="r", port=1, username="ru", password=Secret("rp"), db=2, tls=True),
        postgres=attrs.evolve(default.postgres, host="p", port=3, password=Secret("pp"), sslmode="require"),
    )
    where = addresses(settings)
    assert where.broker == BrokerAddress("b.example", 8883, True, "u", Secret("p"))
    assert where.redis == RedisAddress("r", 1, "ru", Secret("rp"), 2, True)
    assert where.postgres == PostgresAddress("p", 3, "postgres", Secret("pp"), "tracking", "require")
    several = attrs.evolve(
        settings,
        redis=attrs.evolve(
            settings.redis, host="s:7,[::1]:8,t", mode="sentinel", sentinel_service="x", sentinel_password=Secret("sp")
        ),
        postgres=attrs.evolve(settings.postgres, host="p,q:9"),
    )
    redis, postgres = redis_address(several), postgres_address(several)
    assert (redis.where, redis.mode, redis.service) == ("s:7", "sentinel", "x")
    assert [(each.where, each.password) for each in redis.servers] == [
        ("s:7", Secret("sp")), ("[::1]:8", Secret("sp")), ("t:1", Secret("sp"))
    ]  # fmt: skip
    assert [(each.host, each.port, each.others) for each in postgres.servers] == [("p", 3, ()), ("q", 9, ())]
    in_folder = attrs.evolve(settings, postgres=attrs.evolve(settings.postgres, host="/run"))
    assert postgres_address(in_folder).servers == (attrs.evolve(where.postgres, host="/run"),)
    by_socket = attrs.evolve(settings, redis=attrs.evolve(settings.redis, host="/run/a,b.sock", tls=False))
    assert redis_address(by_socket) == RedisAddress(
        username="ru", password=Secret("rp"), db=2, socket_path="/run/a,b.sock"
    )
    plain = attrs.evolve(settings, mqtt=attrs.evolve(default.mqtt, broker_url="mqtt://[::1]:1884"))
    assert broker_address(plain) == BrokerAddress("::1", 1884)
