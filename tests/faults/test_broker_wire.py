"""The connection to the broker, reset or cut at chosen bytes, or swallowed by a black hole, under load."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.proxy import How
from tests.faults.site import Site, running_site
from tests.kit.daemon import until

pytestmark = pytest.mark.live

CUTS = 6
LONGEST = 2_000
"""Bytes until a cut: some twenty messages one way, or five hundred acknowledgements the other."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("wire"), postgres_server) as made:
        yield made


@pytest.fixture
def site(servers: Site) -> Iterator[Site]:
    yield servers
    servers.calm()


def test_reset_and_closed_at_random_bytes(site: Site, seed: int) -> None:
    """Whatever packet is cut in two, one way or the other, CONNECT and SUBSCRIBE too."""
    rng = random.Random(seed)
    hows: tuple[How, ...] = ("reset", "fin")
    print(f"seed {seed}")
    with site.race_day("cuts", rate=300, seed=seed) as (press, spectator):
        for number in range(CUTS):
            offset, how = rng.choice((rng.randrange(100), rng.randrange(LONGEST))), hows[number % 2]
            way = "to_server" if rng.random() < 0.5 else "to_client"
            print(f"{way} after {offset} bytes: {how}")
            site.broker.cut_after(**{way: offset}, how=how).wait()
        check(site.at, site.daemon.running, press, [spectator])
        assert spectator.connected == 1
        assert site.broker.accepted > CUTS
    assert site.daemon.running.metrics()["tracking_mqtt_session_lost_total"] == 0
    assert site.daemon.stop() == 0


def test_a_black_hole_longer_than_the_keepalive(site: Site) -> None:
    """Noticed, said, and left: dashboards stay, and what the broker kept comes when the hole closes."""

    def broker_up() -> float:
        return site.daemon.running.metrics()['tracking_component_up{component="broker"}']

    with site.race_day("hole", rate=100) as (press, spectator):
        until(lambda: len(press.acknowledged) > 50)
        site.broker.black_hole(True)
        before = site.broker.accepted
        until(lambda: broker_up() == 0, "the silence is noticed")
        until(lambda: site.broker.accepted > before, "a new connection is tried, into the hole")
        assert site.daemon.running.get("/readyz/ingest")[0] == 503
        assert site.daemon.running.get("/readyz")[0] == 200
        site.broker.black_hole(False)
        until(lambda: broker_up() == 1)
        check(site.at, site.daemon.running, press, [spectator])
        assert spectator.connected == 1
    assert site.daemon.stop() == 0
