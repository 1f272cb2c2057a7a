"""Sentinels say where the primary is: they are asked in time, and an old primary is left though it still says OK."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from actors.cache.calls import Command
from actors.cache.connections import Connections
from actors.cache.redis import RedisStore
from actors.cache.sentinel import ANSWER_S, LOOK_S, SentinelServers
from actors.cache.stream import KEY, RedisStream
from actors.core.addresses import Address, RedisAddress
from actors.core.errors import CacheUnavailable
from actors.settings.load import Secret
from tests.cache.redis_desk import LAST
from tests.kit.making import make_fix
from tests.kit.redis_servers import SERVICE, Watched, ask, role, start_sentinels
from tests.kit.servers import free_port
from tests.kit.stores import PASSWORD

NAMES = RedisAddress("s1", mode="sentinel", others=(Address("s2", 1), Address("s3", 1)))
PING = [Command("", ("PING",))]


@attrs.define(eq=False)
class FakeSentinel:
    """Says where it believes the primary to be."""

    address: RedisAddress
    told: tuple[int, str] | None = (0, "a")  # epoch and host; None: it cannot be reached
    late_s: float = 0.0
    asked: int = 0

    async def ask(self, _commands: Sequence[Command]) -> list[Any]:
        self.asked += 1
        await trio.sleep(self.late_s)
        if self.told is None:
            raise CacheUnavailable("away")
        epoch, host = self.told
        return [[b"name", b"x", b"ip", host.encode(), b"port", b"6379", b"config-epoch", str(epoch).encode()]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts of the servers that were asked; those that begin with x fail."""
    hosts: list[str] = []

    async def note(connections: Connections, _commands: Sequence[Command], _allow: object = ()) -> list[Any]:
        hosts.append(connections.address.host)
        await trio.lowlevel.checkpoint()
        if connections.address.host.startswith("x"):
            raise CacheUnavailable("no")
        return []

    monkeypatch.setattr(Connections, "ask", note)
    return hosts


def watched() -> tuple[SentinelServers, list[FakeSentinel]]:
    servers = SentinelServers(NAMES)
    sentinels = [FakeSentinel(each.address) for each in servers._sentinels]
    servers._sentinels = sentinels  # type: ignore[assignment]  # what is asked of them
    return servers, sentinels


async def test_the_latest_fail_over_counts_and_is_noticed_in_time(autojump_clock: MockClock, asked: list[str]) -> None:
    servers, sentinels = watched()
    await servers.ask(PING)
    sentinels[1].told = (1, "b")
    await trio.sleep(LOOK_S / 2)
    await servers.ask(PING)
    assert asked == ["a", "a"], "not yet"
    await trio.sleep(LOOK_S / 2)
    sentinels[2].told = (1, "b")
    sentinels[0].late_s = 0.01
    await servers.ask(PING)
    assert asked[2:] == ["b"]


async def test_most_sentinels_will_do(autojump_clock: MockClock, asked: list[str]) -> None:
    servers, sentinels = watched()
    sentinels[0].late_s = math.inf
    began = trio.current_time()
    await servers.ask(PING)
    assert trio.current_time() == began
    sentinels[1].told = None
    await trio.sleep(LOOK_S)
    sentinels[2].told = (5, "b")
    began = trio.current_time()
    await servers.ask(PING)
    assert asked == ["a", "b"], "one of three, when no more come"
    assert trio.current_time() == began + ANSWER_S


async def test_without_sentinels_the_known_primary_is_asked_on(autojump_clock: MockClock, asked: list[str]) -> None:
    servers, sentinels = watched()
    for each in sentinels:
        each.told = None
    with pytest.raises(CacheUnavailable, match=r"^no Sentinel tells where .* 'mymaster' is: s1:6379: away; "):
        await servers.ask(PING)
    for each in sentinels:
        each.late_s = math.inf
    with pytest.raises(CacheUnavailable, match=f"none answered within {ANSWER_S:g} s"):
        await servers.ask(PING)
    for each in sentinels:
        each.told, each.late_s = (0, "a"), 0.0
    await servers.ask(PING)
    for each in sentinels:
        each.told = None
    await trio.sleep(5 * LOOK_S)
    await servers.ask(PING)
    assert asked == ["a", "a"]


async def test_after_trouble_they_are_asked_at_once(autojump_clock: MockClock, asked: list[str]) -> None:
    servers, sentinels = watched()
    for each in sentinels:
        each.told = (0, "x")
    with pytest.raises(CacheUnavailable):
        await servers.ask(PING)
    for each in sentinels:
        each.told = (1, "b")
    await servers.ask(PING)
    assert asked == ["x", "b"]


async def test_only_one_caller_asks_them_and_others_do_not_wait(autojump_clock: MockClock, asked: list[str]) -> None:
    servers, sentinels = watched()
    await servers.ask(PING)
    for each in sentinels:
        each.late_s = ANSWER_S / 2
    await trio.sleep(LOOK_S)
    done: list[float] = []
    began = trio.current_time()

    async def call() -> None:
        await servers.ask(PING)
        done.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(call)
    assert done == [0, 0, ANSWER_S / 2]
    assert [each.asked for each in sentinels] == [2, 2, 2]


async def test_callers_who_know_no_primary_wait_for_one_answer(autojump_clock: MockClock, asked: list[str]) -> None:
    servers, sentinels = watched()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(servers.ask, PING)
    assert asked == ["a", "a", "a"]
    assert [each.asked for each in sentinels] == [1, 1, 1]


# --- real ones -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with start_sentinels(tmp_path_factory.mktemp("sentinels"), password=PASSWORD) as made:
        yield made


@pytest.mark.live
async def test_a_planned_fail_over_is_followed_though_the_old_primary_still_says_ok(site: Watched) -> None:
    """What it takes for another 10 s is lost, which shows: it is written again."""
    before = site.primary
    store, stream = RedisStore(site.address, "node-1", 600), RedisStream(site.address)
    assert await store.write([make_fix()]) is False
    assert await store.write([]) is True
    servers = store._server
    assert isinstance(servers, SentinelServers)
    await trio.to_thread.run_sync(site.fail_over)
    servers._looks_at = math.inf  # as if it had not been time to ask yet
    assert await store.write([make_fix(at_s=1)]) is True
    assert role(before) == "master"
    servers._looks_at = 0
    assert await store.write([]) is False
    await store.write([make_fix(at_s=2)])
    await stream.append(b"x")
    for key in (LAST, KEY):
        assert ask(site.primary, "EXISTS", key) == 1
    assert await store.newest("R1") == [make_fix(at_s=2)]
    assert ask(before, "EXISTS", KEY) == 0
    await store.aclose()
    await stream.aclose()
    await trio.to_thread.run_sync(site.until_copied)


@pytest.mark.live
async def test_a_primary_that_is_killed(site: Watched) -> None:
    store, stream = RedisStore(site.address, "node-1", 600), RedisStream(site.address)
    await store.write([make_fix(at_s=3)])
    await stream.append(b"1")
    place, _ = await stream.read("", 0.1)
    before = site.primary
    before.kill()
    with pytest.raises(CacheUnavailable):
        await store.write([])
    await trio.to_thread.run_sync(site.until_moved, before)
    await trio.sleep(0.3)  # the breaker's rest
    await store.write([make_fix(at_s=4)])
    await stream.append(b"2")
    assert (await stream.read(place, 1.0))[1] == [b"2"]
    assert await store.newest("R1") == [make_fix(at_s=4)]
    await store.aclose()
    await stream.aclose()
    before.start()
    await trio.to_thread.run_sync(site.until_copied)


@pytest.mark.live
async def test_what_is_wrong_is_said_without_the_password(site: Watched) -> None:
    where = site.address
    for change, words in (
        (
            {"service": "mymaster"},
            r"of 'mymaster' is: 127\.0\.0\.1:\d+: Redis: No such master with that name; ",
        ),
        ({"password": Secret("wrong-one")}, "invalid username-password pair"),
        ({"sentinel_password": Secret("wrong-one")}, "AUTH .*called without any password configured"),
        ({"port": free_port(), "others": ()}, "no Sentinel tells where .*refused"),
        ({"port": site.servers[0].port, "others": ()}, "Authentication required"),
    ):
        store = RedisStore(attrs.evolve(where, **change), "node-1", 600)
        with pytest.raises(CacheUnavailable, match=words) as caught:
            await store.newest("R1")
        assert "wrong-one" not in str(caught.value)
        await store.aclose()


@pytest.mark.live
async def test_a_replica_that_is_taken_for_the_primary_is_named(site: Watched) -> None:
    """As long as Sentinels tell of it."""
    (replica,) = [each for each in site.servers if each is not site.primary]
    store = RedisStore(site.address, "node-1", 600)
    servers = store._server
    assert isinstance(servers, SentinelServers)
    servers._primary, servers._looks_at = Connections(site.address.at("127.0.0.1", replica.port)), math.inf
    with pytest.raises(CacheUnavailable, match=f"is a replica of .*:{site.primary.port}: the Sentinels do not tell"):
        await store.write([make_fix()])
    await trio.sleep(0.3)
    await store.write([make_fix()])
    await store.aclose()


def test_sentinels_have_a_log_in_of_their_own() -> None:
    address = attrs.evolve(NAMES, username="u", password=Secret("p"), db=3, sentinel_username="su", tls=True)
    assert [(each.host, each.username, bool(each.password), each.db, each.tls) for each in address.servers] == [
        ("s1", "su", False, 0, True), ("s2", "su", False, 0, True), ("s3", "su", False, 0, True),
    ]  # fmt: skip
    assert address.at("x", 5).password == Secret("p")
    assert SERVICE not in repr(address)
