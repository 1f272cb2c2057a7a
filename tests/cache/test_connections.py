"""The cache's connections to a real Valkey: trouble of every kind is CacheUnavailable within a second."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import attrs
import pytest
import redis
import trio
import trio.testing

from actors.cache import connections as driver
from actors.cache.calls import Command
from actors.cache.connections import CONNECTIONS, PAUSE_FIRST_S, _client, _Line
from actors.cache.redis import RedisStore
from actors.core.addresses import RedisAddress
from actors.core.errors import CacheUnavailable
from actors.settings.load import Secret
from tests.cache.redis_desk import LAST, Raw, only_server
from tests.kit.making import make_fix
from tests.kit.servers import free_port, start_redis
from tests.kit.stores import PASSWORD

pytestmark = pytest.mark.live

PAUSE_MS = 20_000  # of Valkey; the test ends it


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call times out, for tests of what ends one before."""
    monkeypatch.setattr(driver, "CALL_S", 60.0)


async def test_what_fails_is_not_tried_again(redis_process: tuple[RedisAddress, int]) -> None:
    """redis-py does it by itself where it is not told otherwise."""
    came = 0

    async def hang_up(stream: trio.SocketStream) -> None:
        nonlocal came
        came += 1
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, hang_up, [listener])
        port = listener.socket.getsockname()[1]
        store = RedisStore(attrs.evolve(redis_process[0], host="127.0.0.1", port=port), "node-1", 600)
        with pytest.raises(CacheUnavailable):
            await store.newest("R1")
        assert came == 1
        await store.aclose()
        nursery.cancel_scope.cancel()


async def test_a_stopped_server_costs_a_second_and_then_nothing(
    store: RedisStore, redis_process: tuple[RedisAddress, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.newest("R1")
    only_server(store)._pause_s = 60.0  # of the breaker: the second call meets it, however late it comes
    os.kill(redis_process[1], signal.SIGSTOP)
    try:
        with trio.fail_after(20), pytest.raises(CacheUnavailable, match="within 1 s"):
            await store.newest("R1")
        with monkeypatch.context() as patch:
            patch.setattr("actors.cache.connections._Line.ask", lambda *_: pytest.fail("it was tried"))
            with pytest.raises(CacheUnavailable, match="within 1 s"):
                await store.write([make_fix()])
    finally:
        os.kill(redis_process[1], signal.SIGCONT)
    only_server(store)._resting_until = 0
    await store.write([make_fix()])
    assert await store.newest("R1") == [make_fix()]


@pytest.mark.usefixtures("patient")
async def test_lost_connections_are_made_anew(store: RedisStore, raw: Raw) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(store.newest, "R1")
    before = raw.clients()
    raw("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await store.newest("R1")  # idle ones are looked at before they are used
    await raw.until_closed(*before)

    async def kill() -> None:
        while "cmd=evalsha" not in " ".join(map(str, raw("CLIENT", "LIST").splitlines())):
            await trio.sleep(0.01)
        raw("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    raw("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        with pytest.raises(CacheUnavailable, match=r"^Redis: .*[Cc]onnection"):
            await store.write([make_fix()])
    raw("CLIENT", "UNPAUSE")
    await trio.sleep(PAUSE_FIRST_S)  # the breaker's rest
    assert await store.write([make_fix()]) is False


async def test_the_breakers_rest_grows_and_ends_with_the_first_success(
    redis_process: tuple[RedisAddress, int],
    mock_clock: trio.testing.MockClock,  # stands still
) -> None:
    store = RedisStore(attrs.evolve(redis_process[0], port=1), "node-1", 600)
    rests = []
    for _ in range(6):
        with pytest.raises(CacheUnavailable, match=r"connecting to 127\.0\.0\.1:1\."):
            await store.newest("R1")
        rests.append(round(only_server(store)._resting_until - trio.current_time(), 1))
        only_server(store)._resting_until = 0
    assert rests == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    only_server(store).address = redis_process[0]
    await store.newest("R1")
    only_server(store).address = attrs.evolve(redis_process[0], port=1)
    await store.aclose()
    with pytest.raises(CacheUnavailable):
        await store.newest("R1")
    assert round(only_server(store)._resting_until - trio.current_time(), 1) == 0.2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": Secret("wrong-one")}, "invalid username-password pair"),
        ({"password": Secret()}, "Authentication required"),
        ({"username": "nobody", "password": Secret("wrong-one")}, "invalid username-password pair"),
        ({"db": 99}, "out of range"),
        ({"host": "nowhere.invalid"}, "nowhere.invalid:"),
        ({"socket_path": "/nowhere"}, "connecting to /nowhere"),
        ({"tls": True}, "within 1 s"),
    ],
)
async def test_a_login_that_fails_says_why(
    redis_process: tuple[RedisAddress, int], change: dict[str, object], words: str
) -> None:
    store = RedisStore(attrs.evolve(redis_process[0], **change), "node-1", 600)  # type: ignore[arg-type]  # by name
    with pytest.raises(CacheUnavailable, match=words) as caught:
        await store.newest("R1")
    assert "wrong-one" not in str(caught.value)


async def test_a_full_or_read_only_server_is_unavailable(store: RedisStore, raw: Raw) -> None:
    await store.write([make_fix()])
    raw("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(CacheUnavailable, match="maxmemory"):
        await store.write([make_fix(at_s=1)])
    raw("CONFIG", "SET", "maxmemory", 0)
    await trio.sleep(PAUSE_FIRST_S)  # the breaker's rest
    await store.write([make_fix(at_s=2)])
    assert await store.newest("R1") == [make_fix(at_s=2)]


async def test_a_replica_is_named_with_its_primary(redis_process: tuple[RedisAddress, int], raw: Raw) -> None:
    address = redis_process[0]
    raw.client.acl_setuser("mute", enabled=True, passwords=["+p"], commands=["+@all", "-role"], keys=["*"])
    raw("REPLICAOF", "127.0.0.1", 17)
    try:
        for user, of in (({}, r" of 127\.0\.0\.1:17"), ({"username": "mute", "password": Secret("p")}, "")):
            store = RedisStore(attrs.evolve(address, **user), "node-1", 600)  # type: ignore[arg-type]  # by name
            why = rf"^Redis at 127\.0\.0\.1:{address.port} is a replica{of}: point \[redis\] host at the primary \("
            with pytest.raises(CacheUnavailable, match=why):
                await store.write([make_fix()])
            await store.aclose()
    finally:
        raw("REPLICAOF", "NO", "ONE")
        raw.client.acl_deluser("mute")


async def test_a_cluster_is_named(tmp_path: Path) -> None:
    """Without any slot; and with half of them, where a script may reach some keys and not others."""
    with start_redis(tmp_path, extra=["--cluster-enabled", "yes", "--cluster-port", str(free_port())]) as server:
        store = RedisStore(RedisAddress(port=server.port), "node-1", 600)
        for command in ("CLUSTER ADDSLOTSRANGE 0 8191", "CONFIG SET cluster-require-full-coverage no"):
            with pytest.raises(
                CacheUnavailable, match=r"^Redis at \S+ is part of a Redis Cluster: set \[redis\] mode = cluster"
            ):
                await store.write([make_fix(f"P{n}") for n in range(20)])
            with redis.Redis(port=server.port, protocol=2) as client:
                client.execute_command(*command.split())
            only_server(store)._resting_until = 0
        with pytest.raises(CacheUnavailable, match=r"is part of a Redis Cluster: set"):
            await store.write([make_fix(f"P{n}") for n in range(20)])
        await store.aclose()


async def test_what_is_not_redis_is_unavailable() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, talk, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with pytest.raises(CacheUnavailable, match="Protocol error"):
            await RedisStore(RedisAddress(port=port), "node-1", 600).newest("R1")
        nursery.cancel_scope.cancel()


async def test_a_unix_socket_and_another_database_work(redis_process: tuple[RedisAddress, int], raw: Raw) -> None:
    path = raw("CONFIG", "GET", "unixsocket")[1].decode()
    store = RedisStore(RedisAddress(socket_path=path, db=3, password=Secret(PASSWORD)), "node-1", 600)
    await store.write([make_fix()])
    assert raw("EXISTS", LAST) == 0
    assert await store.newest("R1") == [make_fix()]
    await store.aclose()


async def test_many_callers_share_few_connections(store: RedisStore, raw: Raw) -> None:
    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(store.write, [make_fix(f"P{n}")])
    assert 1 <= len(raw.clients()) <= CONNECTIONS
    await store.aclose()
    await raw.until_closed()


@pytest.mark.usefixtures("patient")
async def test_a_cancelled_caller_is_free_at_once_and_its_connection_is_not_used_again(
    store: RedisStore, raw: Raw
) -> None:
    await store.newest("R1")
    (before,) = raw.clients()
    raw("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
    began = trio.current_time()
    with trio.move_on_after(0.1) as scope:
        await store.write([make_fix()])
    assert scope.cancelled_caught
    assert trio.current_time() - began < PAUSE_MS / 1000 / 2
    with trio.fail_after(PAUSE_MS / 1000 / 2):  # its thread is freed too, by the end of the connection
        while only_server(store)._threads.borrowed_tokens:
            await trio.sleep(0.01)
    await store.newest("R1")  # not a failure of Redis: no rest
    await raw.until_closed(before)
    raw("CLIENT", "UNPAUSE")


async def test_a_call_that_goes_on_while_the_store_is_closed_takes_its_connection_along(
    store: RedisStore, raw: Raw
) -> None:
    raw("CLIENT", "PAUSE", 300, "WRITE")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, [make_fix()])
        while not raw.clients():
            await trio.sleep(0.01)
        await store.aclose()
    assert await store.newest("R1") == [make_fix()]
    await raw.until_closed()


async def test_a_thread_left_while_it_connects_closes_what_it_made(
    redis_process: tuple[RedisAddress, int], raw: Raw
) -> None:
    line = _Line(_client(redis_process[0]))
    line.close()
    assert await trio.to_thread.run_sync(line.ask, [Command("", ("PING",))]) == [True]
    await raw.until_closed()
    assert PASSWORD not in repr(line)
