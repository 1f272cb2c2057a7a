"""Reaching an external Redis once, for `check`: one server, all that Sentinels watch, or every node of a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from actors.commands import check_servers
from actors.commands.check_servers import Finding
from actors.core.addresses import RedisAddress, in_url

SLOTS = 16_384


def cache(address: RedisAddress) -> Iterator[Finding]:
    """A line for every server that there is, and what is weak or wrong about it."""
    match address.mode:
        case "sentinel":
            yield from _sentinels(address)
        case "cluster":
            yield from _cluster(address)
        case _:
            yield from _single(address)


def _single(address: RedisAddress) -> Iterator[Finding]:
    for finding, info in _server(address):
        yield finding
        if info.get("role") in ("slave", "replica"):
            primary = f"{info.get('master_host')}:{info.get('master_port')}"
            yield _failed(f"is a replica of {primary}, which takes no writes; name the primary")
        if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):  # Valkey has the second
            yield _failed("is a Sentinel: set [redis] mode = sentinel, or name the server that it watches")
        if int(info.get("cluster_enabled", 0)):
            yield _failed("is part of a Redis Cluster: set [redis] mode = cluster")


def _sentinels(address: RedisAddress) -> Iterator[Finding]:
    primaries: Counter[tuple[str, int]] = Counter()
    replicas: dict[tuple[str, int], None] = {}
    found: list[Finding] = []
    for each in address.servers:
        try:
            with _client(each) as client:
                ask: Callable[..., Any] = client.execute_command
                watched = [_pairs(told)["name"] for told in ask("SENTINEL", "MASTERS")]
                if address.service not in watched:
                    known = ", ".join(watched) or "nothing"
                    text = f"watches {known} and no {address.service!r}: set [redis] sentinel_service"
                    found.append(_failed(f"Sentinel {each.where} {text}"))
                    continue
                told = _pairs(ask("SENTINEL", "MASTER", address.service))
                copies = map(_pairs, ask("SENTINEL", "SLAVES", address.service))
        except redis.RedisError as error:
            no_sentinel = "unknown command" in str(error)
            why = "is no Sentinel: set [redis] mode = single" if no_sentinel else f"cannot be used: {error}"
            found.append(_failed(f"Sentinel {each.where} {why}"))
            continue
        primary = (told["ip"], int(told["port"]))
        primaries[primary] += 1
        replicas |= {(one["ip"], int(one["port"])): None for one in copies}
        where = f"{in_url(primary[0])}:{primary[1]}"
        text = f"Sentinel {each.where} answers: {address.service} is at {where}, quorum {told['quorum']}"
        found.append(Finding("ok", "redis", text))
    yield from _weak_where_others_work(found)
    if not primaries:
        return
    ((primary, _), *others) = primaries.most_common()
    if others:
        yield Finding("warning", "redis", "the Sentinels do not agree: a fail-over is under way, or a split")
    yield from _members(address, {primary: "primary"} | {one: "replica" for one in replicas if one != primary})
    if not replicas.keys() - {primary}:
        yield Finding("warning", "redis", "the primary has no replica: nobody takes its place")


def _cluster(address: RedisAddress) -> Iterator[Finding]:
    found: list[Finding] = []
    for each in address.servers:
        try:
            with _client(each) as client:
                ask: Callable[..., Any] = client.execute_command
                told = ask("CLUSTER", "SLOTS")
        except redis.RedisError as error:
            single = "cluster support disabled" in str(error)
            why = "is no part of a Redis Cluster: set [redis] mode = single" if single else f"cannot be used: {error}"
            found.append(_failed(f"{each.where} {why}"))
            continue
        roles: dict[tuple[str, int], str] = {}
        served = 0
        for first, last, *nodes in told:
            served += last + 1 - first
            for number, (host, port, *_) in enumerate(nodes):
                of = f"{in_url(nodes[0][0] or each.host)}:{nodes[0][1]}"
                roles[host or each.host, port] = f"replica of {of}" if number else "owner"
            if len(nodes) == 1:
                found.append(Finding("warning", "redis", f"slots {first} to {last} have no replica"))
        if served < SLOTS:
            found.append(_failed(f"{SLOTS - served} of {SLOTS} slots have no owner, says {each.where}"))
        yield from _weak_where_others_work(found)
        yield from _members(address, roles)
        return
    yield from found


def _members(address: RedisAddress, roles: dict[tuple[str, int], str]) -> Iterator[Finding]:
    """A replica that is away is a weak spot, another one a fault."""
    for (host, port), role in roles.items():
        for finding, _ in _server(address.at(host, port), role):
            weak = role.startswith("replica") and finding.level == "FAILED"
            yield Finding("warning", "redis", finding.text) if weak else finding


def _server(address: RedisAddress, role: str = "") -> Iterator[tuple[Finding, dict[str, Any]]]:
    """Ping, then what INFO tells: the first finding comes with that."""
    where = f"{address.where}/{address.db}" if address.mode == "single" else address.where
    try:
        with _client(address) as client:
            client.ping()
            try:
                info = client.info()
            except redis.RedisError as error:
                yield Finding("ok", "redis", f"{where} answers{f', {role}' * bool(role)}"), {}
                text = f"INFO is not allowed, so the eviction policy is unknown: {error}"
                yield Finding("warning", "redis", text), {}
                return
    except redis.RedisError as error:
        yield _failed(f"{where} cannot be used{f' ({role})' * bool(role)}: {error}"), {}
        return
    yield Finding("ok", "redis", f"{where} answers, {_version(info)}{f', {role}' * bool(role)}"), info
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy}: live positions may vanish from it; noeviction is better"
        yield Finding("warning", "redis", f"{where}: {text}" if role else text), {}


@contextmanager
def _client(address: RedisAddress) -> Iterator[redis.Redis]:
    client = redis.Redis(
        host=address.host,
        port=address.port,
        unix_socket_path=address.socket_path or None,
        db=address.db,
        username=address.username or None,
        password=address.password.reveal() or None,
        ssl=address.tls,
        socket_connect_timeout=check_servers.CONNECT_S,
        socket_timeout=check_servers.ANSWER_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        protocol=2,
    )
    try:
        yield client
    finally:
        client.close()


def _version(info: dict[str, Any]) -> str:
    """Forks give themselves a name and say which Redis they are compatible with."""
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version', info.get('redis_version', ''))}"


def _pairs(told: list[str]) -> dict[str, str]:
    return dict(zip(told[::2], told[1::2], strict=True))


def _failed(text: str) -> Finding:
    return Finding("FAILED", "redis", text)


def _weak_where_others_work(found: list[Finding]) -> Iterator[Finding]:
    """One that fails is a weak spot as long as another one works."""
    works = any(finding.level == "ok" for finding in found)
    for finding in found:
        weak = works and finding.level == "FAILED"
        yield Finding("warning", "redis", finding.text) if weak else finding
