"""Several Redis that belong together: replicas with Sentinels, or a cluster; `with start_sentinels(folder) as site:`.

Valkey of the wheel, on free ports. Each can be killed, frozen and started again (see tests/kit/servers.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from actors.core.addresses import Address, RedisAddress, Secret
from tests.kit.daemon import until
from tests.kit.servers import Server, free_port, redis_binary, running, start_redis

SERVICE = "race"
DOWN_S = 2.0
"""So long may a server say nothing before the others take it for gone: longer than this machine stalls."""

FAIL_OVER_S = 60.0
THIRDS = ((0, 5460), (5461, 10_922), (10_923, 16_383))  # slots


def ask(server: Server, *words: str | int) -> Any:
    """One command to it."""
    password = server.password or None
    with redis.Redis(
        port=server.port,
        password=password,
        protocol=2,
        decode_responses=True,
        socket_timeout=DOWN_S,
        retry=Retry(NoBackoff(), 0),
    ) as client:
        do: Callable[..., Any] = client.execute_command
        return do(*words)


def role(server: Server) -> str:
    """master, slave, or nothing when it does not answer."""
    try:
        return str(ask(server, "ROLE")[0])
    except redis.RedisError:
        return ""


@attrs.define(eq=False)
class Watched:
    """Servers that copy one of them, and three Sentinels."""

    servers: list[Server]  # the first is the primary at the start
    sentinels: list[Server]
    service: str = SERVICE

    @property
    def address(self) -> RedisAddress:
        """For clients of ours."""
        first, *others = (Address("127.0.0.1", each.port) for each in self.sentinels)
        secret = Secret(self.servers[0].password)
        return RedisAddress(
            first.host, first.port, mode="sentinel", others=tuple(others), service=self.service, password=secret
        )

    @property
    def primary(self) -> Server:
        """As most Sentinels have it."""
        told = [int(ask(each, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1]) for each in self.sentinels]
        port = max(told, key=told.count)
        return next(each for each in self.servers if each.port == port)

    def until_known(self) -> None:
        """All copy the primary, and every Sentinel knows all servers and the other Sentinels."""
        self.until_copied()
        all_of_them = f"num-slaves={len(self.servers) - 1}", f"num-other-sentinels={len(self.sentinels) - 1}"
        until(lambda: all(self._tells(each, *all_of_them) for each in self.sentinels), "all know each other")

    def fail_over(self) -> None:
        """Planned; until all Sentinels know of it."""
        before = self.primary
        ask(self.sentinels[0], "SENTINEL", "FAILOVER", self.service)
        self.until_moved(before)

    def until_moved(self, before: Server) -> None:
        until(lambda: self.primary is not before and role(self.primary) == "master", "a fail-over", FAIL_OVER_S)

    def until_copied(self) -> None:
        """Every other one has what the primary has."""
        until(lambda: all(self._follows(each) for each in self.servers), "copied")

    def _tells(self, sentinel: Server, *words: str) -> bool:
        told = ask(sentinel, "SENTINEL", "MASTER", self.service)
        pairs = {f"{name}={value}" for name, value in zip(told[::2], told[1::2], strict=True)}
        return pairs.issuperset(words)

    def _follows(self, server: Server) -> bool:
        try:
            told = ask(server, "ROLE")
        except redis.ConnectionError:  # a Sentinel that makes it a replica cuts its clients off
            return False
        return server is self.primary or (told[0] == "slave" and told[3] == "connected")


@contextmanager
def start_sentinels(folder: Path, *, password: str = "") -> Iterator[Watched]:
    """A primary, a replica of it, and three Sentinels, which ask for no password."""
    with ExitStack() as stack:
        servers: list[Server] = []
        for number in range(2):
            home = folder / f"redis-{number}"
            home.mkdir()
            extra = ["--repl-diskless-sync-delay", "0", *(["--masterauth", password] if password else [])]
            if servers:
                extra += ["--replicaof", "127.0.0.1", str(servers[0].port)]
            servers.append(stack.enter_context(start_redis(home, password=password, extra=extra)))
        sentinels = [stack.enter_context(_sentinel(folder / f"sentinel-{n}", servers[0])) for n in range(3)]
        site = Watched(servers, sentinels)
        site.until_known()
        yield site


@contextmanager
def _sentinel(folder: Path, primary: Server) -> Iterator[Server]:
    folder.mkdir()
    port = free_port()
    lines = [
        f"port {port}", "bind 127.0.0.1", f"dir {folder}",
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2",
        f"sentinel down-after-milliseconds {SERVICE} {round(DOWN_S * 1000)}",
        f"sentinel failover-timeout {SERVICE} 10000",
        *([f"sentinel auth-pass {SERVICE} {json.dumps(primary.password)}"] if primary.password else []),
    ]  # fmt: skip
    (folder / "sentinel.conf").write_text("\n".join([*lines, ""]))
    server = Server(folder, port, [str(redis_binary()), str(folder / "sentinel.conf"), "--sentinel"])
    with running(server):
        yield server


@attrs.define(eq=False)
class Cluster:
    """Three servers with a third of the slots each, and a replica of each of them."""

    owners: list[Server]
    replicas: list[Server]

    @property
    def servers(self) -> list[Server]:
        return [*self.owners, *self.replicas]

    @property
    def address(self) -> RedisAddress:
        """For clients of ours."""
        return self.address_of(self.servers)

    def address_of(self, seeds: Sequence[Server]) -> RedisAddress:
        first, *others = (Address("127.0.0.1", each.port) for each in seeds)
        return RedisAddress(first.host, first.port, mode="cluster", others=tuple(others))

    def owner(self, key: str) -> Server:
        """Of those that answer, the one that owns it and says that all is well."""
        found = self._owner(key)
        assert found is not None
        return found

    def until_moved(self, key: str, before: Server) -> None:
        """Until every other one that runs knows the new owner."""
        until(lambda: self._owner(key) not in (None, before), "a fail-over", FAIL_OVER_S)

    def fail_over(self, key: str) -> None:
        """Planned: its replica takes over."""
        before = self.owner(key)
        (replica,) = [each for each in self.servers if self.copies(each, before)]
        ask(replica, "CLUSTER", "FAILOVER")
        until(lambda: role(replica) == "master" and self._owner(key) is replica, "a fail-over", FAIL_OVER_S)

    def until_copied(self) -> None:
        """All run, agree, and every slot has a replica."""

        def well() -> bool:
            roles = [ask(each, "ROLE") for each in self.servers]
            return sum(told[0] == "slave" and told[3] == "connected" for told in roles) == 3 and all(
                "cluster_state:ok" in ask(each, "CLUSTER", "INFO") for each in self.servers
            )

        until(well, "copied")

    def copies(self, server: Server, other: Server) -> bool:
        """It is a replica of the other one."""
        told = ask(server, "ROLE")
        return told[0] == "slave" and int(told[2]) == other.port

    def _owner(self, key: str) -> Server | None:
        """None while they do not agree."""
        told = set()
        for each in self.servers:
            try:
                slot = ask(each, "CLUSTER", "KEYSLOT", key)
                if "cluster_state:ok" not in ask(each, "CLUSTER", "INFO"):
                    return None
                told.add(next(int(port) for a, b, (_, port, *_), *_ in ask(each, "CLUSTER", "SLOTS") if a <= slot <= b))
            except (redis.ConnectionError, redis.TimeoutError):
                continue
        return next((each for each in self.servers if {each.port} == told), None)


@contextmanager
def start_cluster(folder: Path) -> Iterator[Cluster]:
    """All slots are served, and every replica has what its owner has."""
    with ExitStack() as stack:
        servers, buses = [], []
        for number in range(6):
            home = folder / f"node-{number}"
            home.mkdir()
            buses.append(free_port())
            options = {
                "enabled": "yes", "port": buses[-1], "node-timeout": round(DOWN_S * 1000),
                "allow-replica-migration": "no",
            }  # fmt: skip
            extra = [word for name, value in options.items() for word in (f"--cluster-{name}", str(value))]
            extra += ["--repl-diskless-sync-delay", "0"]
            servers.append(stack.enter_context(start_redis(home, extra=extra)))
        cluster = Cluster(servers[:3], servers[3:])
        for number, server in enumerate(servers, 1):
            ask(server, "CLUSTER", "SET-CONFIG-EPOCH", number)
        for server, (first, last) in zip(cluster.owners, THIRDS, strict=True):
            ask(server, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            ask(servers[0], "CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        until(lambda: all("known_nodes:6" in ask(each, "CLUSTER", "INFO") for each in servers), "they know each other")
        for owner, replica in zip(cluster.owners, cluster.replicas, strict=True):
            name = ask(owner, "CLUSTER", "MYID")
            until(lambda: name in ask(replica, "CLUSTER", "NODES"))  # noqa: B023  # called at once
            ask(replica, "CLUSTER", "REPLICATE", name)
        until(lambda: all("cluster_state:ok" in ask(each, "CLUSTER", "INFO") for each in servers), "all slots served")
        until(lambda: all(ask(each, "ROLE")[3] == "connected" for each in cluster.replicas), "copied")
        until(lambda: all(len(part) == 4 for each in servers for part in ask(each, "CLUSTER", "SLOTS")), "all know it")
        yield cluster
