"""A Redis Cluster: each race on one node, whoever owns it now; what a node lost is written again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import trio
from redis.exceptions import MovedError

from actors.cache.calls import Command
from actors.cache.connections import Connections
from actors.cache.keys import Keys
from actors.cache.redis import RedisStore
from actors.cache.slots import SLOTS, slot_of
from actors.cache.stream import KEY, RedisStream
from actors.core.errors import CacheUnavailable
from actors.core.fix import Fix
from tests.kit.making import make_fix
from tests.kit.redis_servers import Cluster, ask, role, start_cluster
from tests.kit.servers import free_port, start_redis

pytestmark = pytest.mark.live

T = TypeVar("T")
KEYS = Keys(in_cluster=True)
RACES = [f"R{n}" for n in range(20)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with start_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def cluster(servers: Cluster) -> Cluster:
    for each in servers.servers:
        if role(each) == "master":
            ask(each, "FLUSHALL")
    return servers


def store_on(cluster: Cluster) -> RedisStore:
    return RedisStore(cluster.address_of([cluster.servers[-1]]), "node-1", 600)


def everybody(at_s: float = 0, races: list[str] = RACES) -> list[Fix]:
    return [make_fix(f"P{n}", at_s=at_s + n, race_id=race) for n in range(3) for race in races]


async def newest(store: RedisStore) -> list[Fix]:
    found = await store.newest_of_races([*RACES, "none"])
    return sorted((fix for some in found.values() for fix in some or ()), key=lambda fix: fix.rank)


def in_order(fixes: list[Fix]) -> list[Fix]:
    return sorted(fixes, key=lambda fix: fix.rank)


async def until_well(call: Callable[[], Awaitable[T]]) -> T:
    """What the first call says that goes through."""
    with trio.fail_after(30):
        while True:
            try:
                return await call()
            except CacheUnavailable:
                await trio.sleep(0.1)


async def test_each_race_is_on_one_node_with_its_id_in_braces(cluster: Cluster) -> None:
    store = store_on(cluster)
    assert await store.write(everybody(), {"R1", "never seen"}) is False
    assert await store.write(everybody()) is True
    assert await newest(store) == in_order(everybody())
    assert await store.newest("R3") == everybody(races=["R3"])
    owners = Counter(cluster.owner(KEYS.seen(race)).port for race in RACES)
    assert len(owners) == 3
    for server in cluster.owners:
        names = ask(server, "KEYS", "*")
        assert sum(name.endswith(":seen") for name in names) == owners[server.port]
        (mark,) = [name for name in names if name.startswith("tracking:node:node-1:")]
        assert mark.endswith("}")
    owner = cluster.owner(KEYS.seen("R1"))
    assert ask(owner, "TTL", "race:{R1}:participant:P1:last") > 590
    assert ask(owner, "CLUSTER", "KEYSLOT", KEY) == slot_of(KEY)
    await store.aclose()


async def test_a_race_that_is_forgotten_leaves_nothing_and_begins_again(cluster: Cluster) -> None:
    store = store_on(cluster)
    await store.write(everybody(at_s=9))
    await store.write([make_fix("P1", race_id="R1")], {"R1", "R2"})
    kept = everybody(at_s=9, races=[race for race in RACES if race not in ("R1", "R2")])
    assert await newest(store) == in_order([make_fix("P1", race_id="R1"), *kept])
    assert ask(cluster.owner(KEYS.seen("R2")), "KEYS", "race:{R2}*") == []
    await store.aclose()


async def test_a_node_that_was_emptied_is_noticed_though_others_are_written(cluster: Cluster) -> None:
    store = store_on(cluster)
    await store.write(everybody())
    owner = cluster.owner(KEYS.seen("R1"))
    (other, *_) = [race for race in RACES if cluster.owner(KEYS.seen(race)) is not owner]
    ask(owner, "FLUSHALL")
    ask(owner, "SCRIPT", "FLUSH")
    assert await store.write([make_fix(race_id=other, at_s=99)]) is False
    assert await store.write([]) is True
    await store.aclose()


async def test_a_planned_fail_over_is_followed(cluster: Cluster) -> None:
    """And once: who moved a key is not asked for it again."""
    store = store_on(cluster)
    await store.write(everybody())
    before = cluster.owner(KEYS.seen("R1"))
    await trio.to_thread.run_sync(cluster.fail_over, KEYS.seen("R1"))
    assert await store.write(everybody(at_s=1)) is True
    ask(before, "CONFIG", "RESETSTAT")
    assert await store.write(everybody(at_s=1)) is True
    assert not [name for name in ask(before, "INFO", "commandstats") if name.startswith("cmdstat_eval")]
    await trio.to_thread.run_sync(cluster.fail_over, KEYS.seen("R1"))
    assert await newest(store) == in_order(everybody(at_s=1))
    await store.aclose()


async def test_an_owner_that_is_killed_takes_nothing_along_that_is_not_written_again(cluster: Cluster) -> None:
    """And who reads the stream comes back to it."""
    store, stream, reader = store_on(cluster), RedisStream(cluster.address), RedisStream(cluster.address)
    key = KEYS.seen(next(race for race in RACES if cluster.owner(KEYS.seen(race)) is cluster.owner(KEY)))
    await store.write(everybody())
    await stream.append(b"1")
    place, _ = await reader.read("", 0.1)
    owner = cluster.owner(key)
    ask(owner, "CONFIG", "SET", "repl-timeout", 1000)
    (replica,) = [each for each in cluster.servers if cluster.copies(each, owner)]
    ask(replica, "CONFIG", "SET", "masterauth", "x")  # so that it does not come back
    ask(owner, "CLIENT", "KILL", "TYPE", "replica")
    await store.write(everybody(at_s=1))  # which the replica does not get
    owner.kill()
    for call in (store.write([]), reader.read(place, 0.1)):
        with pytest.raises(CacheUnavailable):
            await call
    ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
    await trio.to_thread.run_sync(cluster.until_moved, key, owner)
    assert await until_well(lambda: store.write([])) is False
    assert await store.write(everybody(at_s=1)) is True
    assert await newest(store) == in_order(everybody(at_s=1))
    await until_well(lambda: stream.append(b"2"))
    assert (await until_well(lambda: reader.read(place, 1.0)))[1] == [b"2"]
    owner.start()
    for each in (store, stream, reader):
        await each.aclose()


async def test_a_slot_on_its_way_to_another_node(cluster: Cluster) -> None:
    """ASK, then keys on both sides, then MOVED."""
    store = store_on(cluster)
    await store.write(everybody(races=["R5"]))
    slot = slot_of("R5")
    source = cluster.owner(KEYS.seen("R5"))
    target = next(each for each in cluster.servers if role(each) == "master" and each is not source)
    ids = {server: ask(server, "CLUSTER", "MYID") for server in (source, target)}
    names = ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    ask(source, "MIGRATE", "127.0.0.1", target.port, names[0], 0, 5000)
    with pytest.raises(CacheUnavailable, match="Multiple keys"):
        await store.write(everybody(at_s=1))
    for name in names[1:]:
        ask(source, "MIGRATE", "127.0.0.1", target.port, name, 0, 5000)
    await store.write(everybody(at_s=2))
    assert await store.newest("R5") == everybody(at_s=2, races=["R5"])
    for server in (target, source):
        ask(server, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    await store.write(everybody(at_s=3))
    assert await newest(store) == in_order(everybody(at_s=3))
    await store.aclose()


async def test_one_node_that_hangs_keeps_no_race_of_others_from_being_written(cluster: Cluster) -> None:
    store = store_on(cluster)
    await store.write(everybody())
    owner = cluster.owner(KEYS.seen("R1"))
    (replica,) = [each for each in cluster.servers if cluster.copies(each, owner)]
    there = [race for race in RACES if cluster.owner(KEYS.seen(race)) is not owner]
    for each in (replica, owner):
        each.sigstop()
    try:
        with pytest.raises(CacheUnavailable, match="within 1 s"):
            await store.write(everybody(at_s=1))
        for race in there:
            assert await store.newest(race) == everybody(at_s=1, races=[race])
    finally:
        for each in (replica, owner):
            each.sigcont()
    await trio.to_thread.run_sync(cluster.until_copied)
    await until_well(lambda: store.write(everybody(at_s=1)))
    assert await newest(store) == in_order(everybody(at_s=1))
    await store.aclose()


async def test_nodes_that_send_each_other_the_asker_are_left(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while they do not agree who owns a slot."""

    async def elsewhere(_self: Connections, commands: Sequence[Command], _allow: object = ()) -> list[Any]:
        await trio.lowlevel.checkpoint()
        told = [[0, SLOTS - 1, [b"a", 1, b"id"]]]
        return [told if command.words[0] == "CLUSTER" else MovedError("7 b:1") for command in commands]

    store = store_on(cluster)
    monkeypatch.setattr(Connections, "ask", elsewhere)
    with pytest.raises(CacheUnavailable, match="redirected 4 times, last 7 b:1"):
        await store.newest("R1")


async def test_any_node_that_answers_will_do(cluster: Cluster) -> None:
    address = attrs.evolve(cluster.address, port=free_port())
    store = RedisStore(address, "node-1", 600)
    await store.write(everybody())
    assert await newest(store) == in_order(everybody())
    await store.aclose()


async def test_what_is_wrong_is_said(cluster: Cluster, tmp_path: Path) -> None:
    """A server of no cluster; one without any slot, and with half of them; nobody."""
    with start_redis(tmp_path) as server:
        with pytest.raises(CacheUnavailable, match=r"cluster support disabled; set \[redis\] mode = single"):
            await RedisStore(cluster.address_of([server]), "node-1", 600).newest("R1")
        server.stop()
        server.argv = [*server.argv, "--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        server.start()
        store = RedisStore(cluster.address_of([server]), "node-1", 600)
        with pytest.raises(CacheUnavailable, match="no slot has an owner"):
            await store.write(everybody())
        ask(server, "CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        with pytest.raises(CacheUnavailable, match=r"slot \d+ has no owner"):
            await store.write(everybody())
        with pytest.raises(CacheUnavailable, match="The cluster is down"):
            await store.newest(next(race for race in RACES if slot_of(race) < 8192))
        server.kill()
        with pytest.raises(CacheUnavailable, match="refused"):
            await store.newest("R1")
        await store.aclose()
