"""The server that held everything is another one now: live positions, and what nodes tell each other, go on there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from actors.cache.keys import Keys
from actors.cache.live_state import PING_S
from actors.cache.slots import slot_of
from actors.cache.stream import KEY
from actors.core.addresses import PostgresAddress, RedisAddress
from tests.faults.nodes import Node
from tests.faults.outage import newest_sent
from tests.faults.press import Press
from tests.faults.spectator import Shown, Spectator
from tests.kit.daemon import Running, until
from tests.kit.expected import utc
from tests.kit.redis_servers import Cluster, Watched, ask, start_cluster, start_sentinels
from tests.kit.servers import Server
from tests.kit.station import Station, station

pytestmark = pytest.mark.live

RACE = next(race for race in (f"R{n}" for n in range(99)) if slot_of(race) // 5461 == slot_of(KEY) // 5461)
"""In a cluster its keys are on the node that has the stream too."""

WITHIN_S = 5.0
"""It takes less than 1 s, on a machine that does not stall. Without a look at the Sentinels it would take 10."""

MORE = 100
"""Messages before, during and after each fail-over."""


@attrs.frozen
class Site:
    """Several Redis behind one another, of either kind."""

    address: RedisAddress
    holder: Callable[[], Server]  # of the race's keys and of the stream
    planned: Callable[[], object]
    until_moved: Callable[[Server], object]
    settle: Callable[[], object]  # all replicas are there again
    keys: Keys


def of_sentinels(site: Watched) -> Site:
    return Site(
        site.address, lambda: site.primary, site.fail_over, site.until_moved, site.until_copied, Keys(in_cluster=False)
    )


def of_a_cluster(cluster: Cluster) -> Site:
    return Site(
        cluster.address_of(cluster.servers[:2]),
        lambda: cluster.owner(KEY),
        lambda: cluster.fail_over(KEY),
        lambda before: cluster.until_moved(KEY, before),
        cluster.until_copied,
        Keys(in_cluster=True),
    )


@contextmanager
def second(at: Station) -> Iterator[Running]:
    """A node that reads nothing from the broker."""
    node = Node(at, "second", {"cluster": {"ingest": "none"}})
    node.ready()
    try:
        yield node.running
    finally:
        node.kill()


def in_redis(site: Site) -> Shown:
    holder = site.holder()
    names: list[Any] = ask(holder, "ZRANGE", site.keys.seen(RACE), 0, -1, "WITHSCORES")
    found = {}
    for who, score in zip(names[::2], names[1::2], strict=True):
        value = json.loads(ask(holder, "GET", site.keys.last(RACE, who)) or "{}").get("timestamp", "nothing")
        found[RACE, who] = value if value == utc(int(float(score))) else f"{value}, seen {score}"
    return found


def redis_keys(address: RedisAddress) -> dict[str, object]:
    hosts = ", ".join(each.where for each in address.servers)
    return {
        "host": hosts, "mode": address.mode, "sentinel_service": address.service,
        "password": address.password.reveal(),
    }  # fmt: skip


def fail_over(site: Site, here: Spectator, there: Spectator, press: Press, fault: str) -> None:
    def flows() -> None:
        goal = len(press.acknowledged) + MORE
        until(lambda: len(press.acknowledged) > goal, "messages are taken")

    flows()
    before = site.holder()
    match fault:
        case "planned":
            site.planned()
        case "killed":
            before.kill()
        case _:
            before.sigstop()
    flows()
    site.until_moved(before)
    back = time.monotonic()
    if fault == "killed":
        before.start()
    elif fault == "frozen":
        before.sigcont()
    press.pause()
    sent = newest_sent(press)
    until(lambda: here.shown() == there.shown() == sent, f"{fault}: shown on both", WITHIN_S)
    print(f"{fault}: both nodes agree after {time.monotonic() - back:.2f} s")
    until(lambda: in_redis(site) == sent, f"{fault}: the new one has all, also who rests", PING_S + WITHIN_S)
    print(f"{fault}: in Redis after {time.monotonic() - back:.2f} s")
    press.resume()
    flows()
    site.settle()


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_fail_overs(tmp_path: Path, postgres_server: PostgresAddress, kind: str) -> None:
    start = start_sentinels if kind == "sentinel" else start_cluster
    with start(tmp_path) as servers, station(tmp_path, postgres_server, cluster={"relay": "yes"}) as at:
        site = of_sentinels(servers) if isinstance(servers, Watched) else of_a_cluster(servers)
        at.keys["redis"] = redis_keys(site.address)
        with (
            at.daemon() as reading,
            second(at) as watching,
            Spectator(at.port, [RACE]) as here,
            Spectator(watching.port, [RACE]) as there,
            Press(at.broker.port, race=RACE, rate=100, resting=2) as press,
        ):
            for fault in ("planned", "killed", "frozen"):
                fail_over(site, here, there, press, fault)
            press.finish()
            until(lambda: {row[0] for row in at.rows(RACE)} == set(press.sent), "all of it is stored")
            assert here.connected == there.connected == 1
            assert watching.stop() == 0
            assert reading.stop() == 0
