"""The cache against a real Valkey: newest wins, and trouble of every kind is CacheUnavailable within a second."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import attrs
import pytest
import redis
import trio
from structlog.testing import capture_logs

from actors.core.fix import Fix
from actors.drivers.addresses import RedisAddress
from actors.drivers.redis import CLIENT_NAME, CONNECTIONS, PAUSE_FIRST_S, RedisStore, _client, _Line
from actors.errors import CacheUnavailable
from actors.messages import LivePosition
from actors.settings import Secret
from tests.live.stores import PASSWORD
from tests.making import BASE_MS, make_fix

pytestmark = pytest.mark.live

LAST = "race:R1:participant:P001:last"


class Raw:
    """Looks into the server past the store."""

    def __init__(self, address: RedisAddress) -> None:
        self.client = redis.Redis(port=address.port, password=address.password.reveal(), protocol=2)
        self._ask: Callable[..., Any] = self.client.execute_command

    def __call__(self, *command: str | int | bytes) -> Any:
        return self._ask(*command)

    def value(self, key: str) -> dict[str, object]:
        decoded: dict[str, object] = json.loads(self("GET", key))
        return decoded

    def clients(self) -> list[str]:
        """The id of each connection of the store."""
        return [client["id"] for client in self.client.client_list() if client["name"] == CLIENT_NAME]

    async def until_closed(self, *ids: str) -> None:
        """The server learns a little later that these, or all when none is named, are closed."""
        with trio.fail_after(1):
            while (left := self.clients()) and (not ids or set(ids) & set(left)):
                await trio.sleep(0.01)


@pytest.fixture
def raw(redis_process: tuple[RedisAddress, int]) -> Iterator[Raw]:
    raw = Raw(redis_process[0])
    raw("FLUSHALL")
    yield raw
    raw("CONFIG", "SET", "maxmemory", 0)
    raw.client.close()


@pytest.fixture
async def store(redis_process: tuple[RedisAddress, int], raw: Raw) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_process[0], "node-1", 600)
    yield store
    await store.aclose()


def live(*fixes: Fix, force: bool = False) -> list[LivePosition]:
    return [LivePosition(fix, force) for fix in fixes]


async def test_keys_and_values_are_those_of_the_contract(store: RedisStore, raw: Raw) -> None:
    await store.write(live(make_fix(arrived_s=0.512), make_fix("P002", 1)))
    assert raw.value(LAST) == {
        "participantId": "P001", "raceId": "R1", "latitude": -7.9456, "longitude": 112.6145,
        "timestamp": "2025-07-01T08:15:30.000Z", "receivedAt": "2025-07-01T08:15:30.512Z", "status": "moving",
    }  # fmt: skip
    assert raw("ZRANGE", "race:R1:seen", 0, -1, "WITHSCORES") == [
        b"P001", str(BASE_MS).encode(), b"P002", str(BASE_MS + 1000).encode(),
    ]  # fmt: skip
    for key in (LAST, "race:R1:seen", "race:R1:rank", "tracking:node:node-1"):
        assert 590 <= raw("TTL", key) <= 600


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
        assert raw("ZSCORE", "race:R1:seen", "P001") == newest.timestamp_ms


async def test_force_goes_back_and_later_ones_go_on_from_there(store: RedisStore) -> None:
    await store.write(live(make_fix(at_s=9)))
    await store.write(live(make_fix(at_s=1), force=True))
    assert await store.newest("R1") == [make_fix(at_s=1)]
    await store.write(live(make_fix(at_s=2)))
    assert await store.newest("R1") == [make_fix(at_s=2)]


async def test_who_is_gone_leaves_nothing_and_may_come_back(store: RedisStore, raw: Raw) -> None:
    await store.write(live(make_fix(at_s=9)))
    await store.write([LivePosition(make_fix(at_s=9), force=True, gone=True)])
    assert await store.newest("R1") == []
    assert raw("KEYS", "race:*") == []
    await store.write(live(make_fix(at_s=1)))
    assert await store.newest("R1") == [make_fix(at_s=1)]


async def test_positions_of_another_writer_are_not_put_back(store: RedisStore, raw: Raw) -> None:
    raw("SET", LAST, b"whatever")
    raw("ZADD", "race:R1:seen", BASE_MS + 5000, "P001")
    await store.write(live(make_fix(at_s=4.999)))
    assert raw("GET", LAST) == b"whatever"
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
    raw("FLUSHALL")
    raw("SCRIPT", "FLUSH")
    assert await store.write(live(make_fix())) is False
    assert await store.write([]) is True


async def test_a_write_whose_answer_was_lost_leaves_a_doubt(store: RedisStore, raw: Raw) -> None:
    """It may have been the first one after a FLUSHALL, which nobody was told then."""
    await store.write(live(make_fix()))
    acknowledged = raw("GET", "tracking:node:node-1")
    raw("FLUSHALL")
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.write(live(make_fix()))
    other = RedisStore(store.address, "node-1", store.ttl_s)  # stands for a write that arrived all the same
    await other.write(live(make_fix("P2")))
    await other.aclose()
    assert raw("GET", "tracking:node:node-1") not in (None, acknowledged)
    assert await store.write([]) is False
    assert await store.write([]) is True
    raw("DEL", "tracking:node:node-1")
    raw("LPUSH", "tracking:node:node-1", "somebody else's")
    assert await store.write([]) is False
    assert await store.write([]) is True


async def test_values_that_are_no_positions_are_left_out_and_said(store: RedisStore, raw: Raw) -> None:
    await store.write(live(make_fix("P1"), make_fix("P2"), make_fix("P3")))
    good = raw.value("race:R1:participant:P1:last")
    bad: list[bytes] = [b"", b"\xff", b"null", b"[1]"]
    changes: list[dict[str, object]] = [
        {"latitude": 91}, {"longitude": "x"}, {"timestamp": "yesterday"}, {"status": "MOVING"}, {"raceId": "R2"},
        {"participantId": "P9"}, {"latitude": 1e999},
    ]  # fmt: skip
    bad += [json.dumps({**good, **change}).encode() for change in changes]
    for value in bad:
        raw("SET", "race:R1:participant:P1:last", value)
        with capture_logs() as logs:
            assert await store.newest("R1") == [make_fix("P2"), make_fix("P3")]
        assert [entry["count"] for entry in logs] == [1]
    raw("DEL", "race:R1:participant:P1:last")
    raw("ZADD", "race:R1:seen", 1, b"\xff\xfe")
    assert await store.newest("R1") == [make_fix("P2"), make_fix("P3")]


async def test_a_value_without_the_time_of_arrival_counts(store: RedisStore, raw: Raw) -> None:
    await store.write(live(make_fix()))
    value = raw.value(LAST)
    del value["receivedAt"]
    raw("SET", LAST, json.dumps(value | {"more": [1]}))
    assert await store.newest("R1") == [make_fix()]


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
            await store.ping()
        assert came == 1
        await store.aclose()
        nursery.cancel_scope.cancel()


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
    before = raw.clients()
    raw("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await store.ping()  # idle ones are looked at before they are used
    await raw.until_closed(*before)

    async def kill() -> None:
        while "cmd=evalsha" not in " ".join(map(str, raw("CLIENT", "LIST").splitlines())):
            await trio.sleep(0.01)
        raw("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    raw("CLIENT", "PAUSE", 900, "WRITE")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        with pytest.raises(CacheUnavailable, match=r"^Redis: .*[Cc]onnection"):
            await store.write(live(make_fix()))
    raw("CLIENT", "UNPAUSE")
    await trio.sleep(PAUSE_FIRST_S)  # the breaker's rest
    assert await store.write(live(make_fix())) is False


async def test_the_breakers_rest_grows_and_ends_with_the_first_success(redis_process: tuple[RedisAddress, int]) -> None:
    store = RedisStore(attrs.evolve(redis_process[0], port=1), "node-1", 600)
    rests = []
    for _ in range(6):
        with pytest.raises(CacheUnavailable, match=r"connecting to 127\.0\.0\.1:1\."):
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
        await store.ping()
    assert "wrong-one" not in str(caught.value)


async def test_a_full_or_read_only_server_is_unavailable(store: RedisStore, raw: Raw) -> None:
    await store.write(live(make_fix()))
    raw("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(CacheUnavailable, match="maxmemory"):
        await store.write(live(make_fix(at_s=1)))
    raw("CONFIG", "SET", "maxmemory", 0)
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
        with pytest.raises(CacheUnavailable, match="Protocol error"):
            await RedisStore(RedisAddress(port=port), "node-1", 600).ping()
        nursery.cancel_scope.cancel()


async def test_a_unix_socket_and_another_database_work(redis_process: tuple[RedisAddress, int], raw: Raw) -> None:
    path = raw("CONFIG", "GET", "unixsocket")[1].decode()
    store = RedisStore(RedisAddress(socket_path=path, db=3, password=Secret(PASSWORD)), "node-1", 600)
    await store.write(live(make_fix()))
    assert raw("EXISTS", LAST) == 0
    assert await store.newest("R1") == [make_fix()]
    assert (await store.info())["maxmemory_policy"] == "noeviction"
    await store.aclose()


async def test_many_callers_share_few_connections(store: RedisStore, raw: Raw) -> None:
    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(store.write, live(make_fix(f"P{n}")))
    assert 1 <= len(raw.clients()) <= CONNECTIONS
    await store.aclose()
    await raw.until_closed()


async def test_a_cancelled_caller_is_free_at_once_and_its_connection_is_not_used_again(
    store: RedisStore, raw: Raw
) -> None:
    await store.ping()
    (before,) = raw.clients()
    raw("CLIENT", "PAUSE", 900, "WRITE")
    began = trio.current_time()
    with trio.move_on_after(0.1) as scope:
        await store.write(live(make_fix()))
    assert scope.cancelled_caught
    assert trio.current_time() - began < 0.4
    with trio.fail_after(0.4):  # its thread is freed too, by the end of the connection
        while store._threads.borrowed_tokens:
            await trio.sleep(0.01)
    await store.ping()  # not a failure of Redis: no rest
    await raw.until_closed(before)
    raw("CLIENT", "UNPAUSE")


async def test_a_call_that_goes_on_while_the_store_is_closed_takes_its_connection_along(
    store: RedisStore, raw: Raw
) -> None:
    raw("CLIENT", "PAUSE", 300, "WRITE")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, live(make_fix()))
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
    assert await trio.to_thread.run_sync(line.ask, lambda pipe: pipe.ping()) == [True]
    await raw.until_closed()
    assert PASSWORD not in repr(line)
