"""Redis is a cache: out of memory, read-only or slow, fixes and dashboards go on, and it is filled afterwards.

Killed, stopped, frozen and flushed: tests/live/test_contract_outages.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import pytest
from redis import Redis

from actors.drivers.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.spectator import Shown, Spectator
from tests.live.expected import fix
from tests.live.live_state import cached, snapshot
from tests.live.station import Station, station, until
from tests.servers import free_port

pytestmark = pytest.mark.live

SLOW_S = 2.0
MORE = 300
"""Messages that have to come through meanwhile."""

Change = Callable[[Redis, Proxy], object]


@attrs.frozen
class Trouble:
    """How it begins, what the daemon says of it, and how it ends."""

    begin: Change
    said: str
    end: Change


def latency(seconds: float) -> Change:
    def change(_redis: Redis, proxy: Proxy) -> None:
        proxy.delay_s = seconds

    return change


TROUBLES = {
    "out-of-memory": Trouble(
        lambda redis, _: redis.config_set("maxmemory", 1),
        "used memory > 'maxmemory'",
        lambda redis, _: redis.config_set("maxmemory", 0),
    ),
    "read-only": Trouble(
        lambda redis, _: redis.replicaof("127.0.0.1", free_port()),
        "read only replica",
        lambda redis, _: redis.replicaof("NO", "ONE"),
    ),
    "slow": Trouble(latency(SLOW_S), "did not answer within 1 s", latency(0.0)),
}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Station]:
    """Servers for the module."""
    with station(tmp_path_factory.mktemp("redis"), postgres_server) as made:
        yield made


@pytest.mark.parametrize("name", TROUBLES)
def test_nobody_but_redis_notices(at: Station, name: str) -> None:
    trouble = TROUBLES[name]
    with proxy_to(at.redis.port) as proxy:
        at.keys["redis"] = {"port": proxy.port}
        with (
            at.daemon() as running,
            Press(at.broker.port, race=name, rate=200) as press,
            Spectator(at.port, [name]) as spectator,
        ):
            until(lambda: len(press.acknowledged) > MORE)
            before = len(running.log)
            trouble.begin(at.cache, proxy)
            until(lambda: trouble.said in running.log[before:], "it is said")
            committed = running.metrics()["tracking_fixes_committed_total"]
            until(lambda: running.metrics()["tracking_fixes_committed_total"] > committed + MORE, "fixes go on")
            at.send(fix(f"new-{name}"))  # a race that has to be restored without Redis
            press.pause()
            until(lambda: spectator.shown() == newest(press, name), "the dashboard shows the newest")
            assert set(snapshot(running, f"new-{name}")[f"new-{name}"]) == {"P1"}
            assert running.metrics()['tracking_component_up{component="redis"}'] == 0
            assert running.get("/readyz/ingest")[0] == running.get("/readyz")[0] == 200
            trouble.end(at.cache, proxy)
            until(lambda: cached(at, f"new-{name}", "P1"), "what came meanwhile is in Redis")
            press.resume()
            check(at, running, press, [spectator])
            assert spectator.connected == 1
            assert running.stop() == 0


def newest(press: Press, race: str) -> Shown:
    found: Shown = {}
    for one in press.sent.values():
        key = (race, one["participant_id"])
        found[key] = max(found.get(key, ""), one["timestamp"])
    return found
