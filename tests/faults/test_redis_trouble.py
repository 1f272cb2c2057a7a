"""Redis is a cache: killed, frozen, flushed, full, read-only or slow, fixes and dashboards go on; it is refilled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.outage import newest_sent
from tests.faults.press import Press
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.spectator import Spectator
from tests.kit.daemon import until
from tests.kit.expected import fix
from tests.kit.live_state import cached, seen, snapshot
from tests.kit.servers import free_port
from tests.kit.station import Station, station

pytestmark = pytest.mark.live

SLOW_S = 2.0
MORE = 300
"""Messages that have to come through meanwhile."""

Change = Callable[[Station, Proxy], object]


@attrs.frozen
class Trouble:
    """How it begins, what the daemon says of it, and how it ends."""

    begin: Change
    said: str
    end: Change


def latency(seconds: float) -> Change:
    def change(_at: Station, proxy: Proxy) -> None:
        proxy.delay_s = seconds

    return change


TROUBLES = {
    "killed": Trouble(lambda at, _: at.redis.kill(), "Redis: ", lambda at, _: at.redis.start()),
    "stopped": Trouble(lambda at, _: at.redis.stop(), "Redis: ", lambda at, _: at.redis.start()),
    "frozen": Trouble(
        lambda at, _: at.redis.sigstop(),
        "did not answer within 1 s",
        lambda at, _: at.redis.sigcont(),
    ),
    "out-of-memory": Trouble(
        lambda at, _: at.cache.config_set("maxmemory", 1),
        "used memory > 'maxmemory'",
        lambda at, _: at.cache.config_set("maxmemory", 0),
    ),
    "read-only": Trouble(
        lambda at, _: at.cache.replicaof("127.0.0.1", free_port()),
        "read only replica",
        lambda at, _: at.cache.replicaof("NO", "ONE"),
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
            trouble.begin(at, proxy)
            until(lambda: trouble.said in running.log[before:], "it is said")
            committed = running.metrics()["tracking_fixes_committed_total"]
            until(lambda: running.metrics()["tracking_fixes_committed_total"] > committed + MORE, "fixes go on")
            at.send(fix(f"new-{name}"))  # a race that has to be restored without Redis
            press.pause()
            until(lambda: spectator.shown() == newest_sent(press), "the dashboard shows the newest")
            until(lambda: set(snapshot(running, f"new-{name}")[f"new-{name}"]) == {"P1"}, "so does the new race")
            assert running.metrics()['tracking_component_up{component="redis"}'] == 0
            assert running.get("/readyz/ingest")[0] == running.get("/readyz")[0] == 200
            trouble.end(at, proxy)
            until(lambda: cached(at, f"new-{name}", "P1"), "what came meanwhile is in Redis")
            until(lambda: running.metrics()['tracking_component_up{component="redis"}'] == 1, "and that is said")
            press.resume()
            check(at, running, press, [spectator])
            assert spectator.connected == 1
            assert running.stop() == 0


def until_more(press: Press) -> None:
    enough = len(press.acknowledged) + MORE
    until(lambda: len(press.acknowledged) > enough)


def test_flushed_again_and_again(at: Station) -> None:
    """Who never moves again is in it again, too."""
    at.keys["redis"] = {}  # no proxy
    with (
        at.daemon() as running,
        Press(at.broker.port, race="flushed", rate=200, resting=3) as press,
        Spectator(at.port, ["flushed"]) as spectator,
    ):
        until(lambda: len(seen(at, "flushed")) == press.participants, "everybody is there")
        for _ in range(5):
            at.cache.flushall()
            until_more(press)
        until(lambda: len(seen(at, "flushed")) == press.participants, "everybody is there again")
        check(at, running, press, [spectator])
        assert spectator.connected == 1
        assert running.stop() == 0
