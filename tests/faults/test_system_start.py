"""Every server is away when the daemon starts, and they come up in any order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.spectator import Spectator
from tests.kit.daemon import Running, until
from tests.kit.expected import fix, fix_id, now_ms
from tests.kit.station import Station, station

pytestmark = pytest.mark.live

SHUFFLES = (4, 5, 7)  # each begins with another server
SOAK_SHUFFLES = range(100, 130)


@pytest.fixture(scope="module")
def postgres_door(postgres_server: PostgresAddress) -> Iterator[Proxy]:
    with proxy_to(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def at(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress, postgres_door: Proxy
) -> Iterator[Station]:
    """Servers for the module; the daemon reaches PostgreSQL through a door that can be closed."""
    folder = tmp_path_factory.mktemp("start")
    with station(folder, postgres_server, postgres={"port": postgres_door.port}) as made:
        with made.daemon():
            pass  # the broker has a session from now on, and PostgreSQL the tables
        yield made


def answers(running: Running, path: str) -> bool:
    assert running.process.poll() is None, running.log
    with suppress(OSError):
        return running.get(path)[0] == 200
    return False


@pytest.mark.parametrize("shuffle", [*SHUFFLES, *(pytest.param(n, marks=pytest.mark.soak) for n in SOAK_SHUFFLES)])
def test_all_away_and_up_in_random_order(at: Station, postgres_door: Proxy, shuffle: int) -> None:
    race = f"start-{shuffle}"
    up: dict[str, Callable[[], object]] = {
        "broker": at.broker.start,
        "redis": at.redis.start,
        "postgres": lambda: postgres_door.refuse(False),
    }
    order = random.Random(shuffle).sample(sorted(up), len(up))
    before = fix(race, "before", now_ms())
    at.send(before)  # the broker keeps it for us
    at.broker.stop()
    at.redis.stop()
    postgres_door.refuse(True)
    with at.daemon(ready=False) as running:
        until(lambda: answers(running, "/healthz"), "it lives without any server")
        components = json.loads(running.get("/readyz/ingest")[1])["components"]
        assert not any(components[name]["up"] for name in up)
        for name in order:
            if name != "redis":
                assert not answers(running, "/readyz/ingest"), f"{name} is still away"
            up[name]()
            until_up(running, name)
        until(lambda: answers(running, "/readyz/ingest"), f"ready, order {order}")
        with (
            Press(at.broker.port, race=race, rate=200) as press,
            Spectator(at.port, [race]) as spectator,
        ):
            until(lambda: len(press.acknowledged) > 200)
            press.sent[fix_id(before)] = before
            press.acknowledged.add(fix_id(before))
            check(at, running, press, [spectator])
            assert running.metrics()["tracking_mqtt_session_lost_total"] == 0
        assert running.stop() == 0


def until_up(running: Running, name: str) -> None:
    sample = f'tracking_component_up{{component="{name}"}}'
    until(lambda: running.metrics()[sample] == 1, f"{name} is up")
