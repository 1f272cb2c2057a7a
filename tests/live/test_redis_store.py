"""The cache against a real Valkey: newest wins, and trouble of every kind is CacheUnavailable within a second."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from functools import partial

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from actors.core.fix import Fix
from actors.drivers.addresses import RedisAddress
from actors.drivers.redis import PAUSE_FIRST_S, RedisStore
from actors.drivers.resp import Command, Reply, RespConnection, connect
from actors.errors import CacheUnavailable
from actors.messages import LivePosition
from actors.settings import Secret
from tests.live.stores import PASSWORD
from tests.making import BASE_MS, make_fix

pytestmark = pytest.mark.live

LAST = "race:R1:participant:P001:last"


@attrs.define
class Raw:
    """Looks into the server past the store."""

    connection: RespConnection

    async def __call__(self, *command: str | int | bytes) -> Reply:
        return (await self.connection.pipeline([command]))[0]

    async def value(self, key: str) -> dict[str, object]:
        value = await self("GET", key)
        assert isinstance(value, bytes)
        decoded: dict[str, object] = json.loads(value)
        return decoded


@pytest.fixture
async def raw(redis_process: tuple[RedisAddress, int]) -> AsyncIterator[Raw]:
    connection = await connect(redis_process[0])
    raw = Raw(connection)
    await raw("FLUSHALL")
    yield raw
    await raw("CONFIG", "SET", "maxmemory", 0)
    await connection.aclose()


@pytest.fixture
async def store(redis_process: tuple[RedisAddress, int], raw: Raw) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_process[0], "node-1", 600)
    yield store
    await store.aclose()


def live(*fixes: Fix, force: bool = False) -> list[LivePosition]:
    return [LivePosition(fix, force) for fix in fixes]


async def test_keys_and_values_are_those_of_the_contract(store: RedisStore, raw: Raw) -> None:
    await store.write(live(make_fix(arrived_s=0.512), make_fix("P002", 1)))
    assert await raw.value(LAST) == {
        "participantId": "P001", "raceId": "R1", "latitude": -7.9456, "longitude": 112.6145,
        "timestamp": "2025-07-01T08:15:30.000Z", "receivedAt": "2025-07-01T08:15:30.512Z", "status": "moving",
    }  # fmt: skip
    assert await raw("ZRANGE", "race:R1:seen", 0, -1, "WITHSCORES") == [
        b"P001", str(BASE_MS).encode(), b"P002", str(BASE_MS + 1000).encode(),
    ]  # fmt: skip
    for key in (LAST, "race:R1:seen", "race:R1:rank", "tracking:node:node-1"):
        left = await raw("TTL", key)
        assert isinstance(left, int)
        assert 590 <= left <= 600


async def test_only_greater_positions_are_taken(store: RedisStore, raw: Raw) -> None:
    low, high = sorted((make_fix(at_s=5, lat=1), make_fix(at_s=5, lat=2)), key=lambda fix: fix.rank)
    steps = [
        (make_fix(at_s=3), True), (make_fix(at_s=2), False), (make_fix(at_s=2, status=3), False), (low, True),
        (high, True), (low, False), (make_fix(at_s=5, status=1), True), (high, False), (make_fix(at_s=6), True),
    ]  # fmt: skip
    newest = None
    for fix, taken in steps:
        await store.write(live(fix))
        newest = fix if taken else newest
        assert await store.newest("R1") == [newest]
        assert newest is not None
        assert await raw("ZSCORE", "race:R1:seen", "P001") == str(newest.timestamp_ms).encode()


async def test_force_goes_back_and_later_ones_go_on_from_there(store: RedisStore) -> None:
    await store.write(live(make_fix(at_s=9)))
    await store.write(live(make_fix(at_s=1), force=True))
    assert await store.newest("R1") == [make_fix(at_s=1)]
    await store.write(live(make_fix(at_s=2)))
    assert await store.newest("R1") == [make_fix(at_s=2)]


async def test_positions_of_another_writer_are_not_put_back(store: RedisStore, raw: Raw) -> None:
    await raw("SET", LAST, b"whatever")
    await raw("ZADD", "race:R1:seen", BASE_MS + 5000, "P001")
    await store.write(live(make_fix(at_s=4.999)))
    assert await raw("GET", LAST) == b"whatever"
    await store.write(live(make_fix(at_s=5)))
    assert await store.newest("R1") == [make_fix(at_s=5)]


async def test_many_positions_of_many_races_are_one_call(store: RedisStore, raw: Raw) -> None:
    fixes = [make_fix(f"P{n}", n, race_id=f"R{n % 20}") for n in range(1234)]
    await store.write(live(*fixes))
    found = [fix for n in range(20) for fix in await store.newest(f"R{n}")]
    assert sorted(found, key=lambda fix: fix.rank) == fixes
    big = [make_fix(f"B{n}", n, race_id="B") for n in range(1100)]
    await store.write(live(*big))
    assert await store.newest("B") == big
    assert await store.newest("none") == []


async def test_an_emptied_cache_is_noticed_by_the_next_write(store: RedisStore, raw: Raw) -> None:
    assert await store.write(live(make_fix())) is False
    assert await store.write(live(make_fix())) is True
    await raw("FLUSHALL")
    await raw("SCRIPT", "FLUSH")
    assert await store.write(live(make_fix())) is False
    assert await store.write([]) is True


async def test_values_that_are_no_positions_are_left_out_and_said(store: RedisStore, raw: Raw) -> None:
    await store.write(live(make_fix("P1"), make_fix("P2"), make_fix("P3")))
    good = await raw.value("race:R1:participant:P1:last")
    bad: list[bytes] = [b"", b"\xff", b"null", b"[1]"]
    changes: list[dict[str, object]] = [
        {"latitude": 91}, {"longitude": "x"}, {"timestamp": "yesterday"}, {"status": "MOVING"}, {"raceId": "R2"},
        {"participantId": "P9"}, {"latitude": 1e999},
    ]  # fmt: skip
    bad += [json.dumps({**good, **change}).encode() for change in changes]
    for value in bad:
        await raw("SET", "race:R1:participant:P1:last", value)
        with capture_logs() as logs:
            assert await store.newest("R1") == [make_fix("P2"), make_fix("P3")]
        assert [entry["count"] for entry in logs] == [1]
    await raw("DEL", "race:R1:participant:P1:last")
    await raw("ZADD", "race:R1:seen", 1, b"\xff\xfe")
    assert await store.newest("R1") == [make_fix("P2"), make_fix("P3")]


async def test_a_value_without_the_time_of_arrival_counts(store: RedisStore, raw: Raw) -> None:
    await store.write(live(make_fix()))
    value = await raw.value(LAST)
    del value["receivedAt"]
    await raw("SET", LAST, json.dumps(value | {"more": [1]}))
    assert await store.newest("R1") == [make_fix()]


async def test_a_stopped_server_costs_a_second_and_then_nothing(
    store: RedisStore, redis_process: tuple[RedisAddress, int]
) -> None:
    await store.ping()
    os.kill(redis_process[1], signal.SIGSTOP)
    try:
        began = trio.current_time()
        with pytest.raises(CacheUnavailable, match="within 1 s"):
            await store.ping()
        assert trio.current_time() - began < 1.5
        with pytest.raises(CacheUnavailable, match="within 1 s"):
            await store.write(live(make_fix()))
        assert trio.current_time() - began < 1.5
    finally:
        os.kill(redis_process[1], signal.SIGCONT)
    await trio.sleep(PAUSE_FIRST_S)  # the breaker's rest
    await store.write(live(make_fix()))
    assert await store.newest("R1") == [make_fix()]


async def test_lost_connections_are_made_anew(store: RedisStore, raw: Raw) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(store.ping)
    await raw("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(CacheUnavailable):
        await store.ping()
    await trio.sleep(PAUSE_FIRST_S)  # the breaker's rest
    await store.ping()


async def test_the_breakers_rest_grows_and_ends_with_the_first_success(redis_process: tuple[RedisAddress, int]) -> None:
    store = RedisStore(attrs.evolve(redis_process[0], port=1), "node-1", 600)
    rests = []
    for _ in range(6):
        with pytest.raises(CacheUnavailable, match=r"cannot reach Redis at 127\.0\.0\.1:1"):
            await store.ping()
        rests.append(round(store._resting_until - trio.current_time(), 1))
        store._resting_until = 0
    assert rests == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    store.address = redis_process[0]
    await store.ping()
    store.address = attrs.evolve(redis_process[0], port=1)
    await store.aclose()
    with pytest.raises(CacheUnavailable):
        await store.ping()
    assert round(store._resting_until - trio.current_time(), 1) == 0.2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": Secret("wrong-one")}, "WRONGPASS"),
        ({"password": Secret()}, "NOAUTH"),
        ({"username": "nobody", "password": Secret("wrong-one")}, "WRONGPASS"),
        ({"db": 99}, "out of range"),
        ({"host": "nowhere.invalid"}, "cannot reach"),
        ({"socket_path": "/nowhere"}, "cannot reach Redis at /nowhere"),
        ({"tls": True}, "within 1 s"),
    ],
)
async def test_a_login_that_fails_says_why(
    redis_process: tuple[RedisAddress, int], change: dict[str, object], words: str
) -> None:
    store = RedisStore(attrs.evolve(redis_process[0], **change), "node-1", 600)  # type: ignore[arg-type]  # by name
    with pytest.raises(CacheUnavailable, match=words) as caught:
        await store.ping()
    assert "wrong-one" not in str(caught.value)


async def test_a_full_or_read_only_server_is_unavailable(store: RedisStore, raw: Raw) -> None:
    await store.write(live(make_fix()))
    await raw("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(CacheUnavailable, match="OOM"):
        await store.write(live(make_fix(at_s=1)))
    await raw("CONFIG", "SET", "maxmemory", 0)
    await trio.sleep(PAUSE_FIRST_S)  # the breaker's rest
    await store.write(live(make_fix(at_s=2)))
    assert await store.newest("R1") == [make_fix(at_s=2)]


async def test_what_is_not_redis_is_unavailable() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, talk, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with pytest.raises(CacheUnavailable, match="not Redis"):
            await RedisStore(RedisAddress(port=port), "node-1", 600).ping()
        nursery.cancel_scope.cancel()


async def test_a_unix_socket_and_another_database_work(redis_process: tuple[RedisAddress, int], raw: Raw) -> None:
    path = await raw("CONFIG", "GET", "unixsocket")
    assert isinstance(path, list)
    assert isinstance(path[1], bytes)
    store = RedisStore(RedisAddress(socket_path=path[1].decode(), db=3, password=Secret(PASSWORD)), "node-1", 600)
    await store.write(live(make_fix()))
    assert await raw("EXISTS", LAST) == 0
    assert await store.newest("R1") == [make_fix()]
    assert (await store.info())["maxmemory_policy"] == "noeviction"
    await store.aclose()


async def test_many_callers_share_few_connections(store: RedisStore, raw: Raw) -> None:
    command: Command = ("CLIENT", "LIST", "TYPE", "normal")
    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(store.write, live(make_fix(f"P{n}")))
    clients = await raw(*command)
    assert isinstance(clients, bytes)
    assert clients.count(b"\n") <= 5
