"""How soon a new fix is history again once the faulty part is back: within 5 s (in CI six times that, on any machine).

New: a row of a fix that was made after the part was back; for Redis, the live position of such a fix.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.press import Press
from tests.faults.proxy import Proxy
from tests.faults.site import Site, running_site
from tests.kit.daemon import until
from tests.kit.expected import now_ms
from tests.kit.live_state import seen
from tests.kit.postgres import start_postgres
from tests.kit.servers import Server
from tests.kit.station import conninfo

pytestmark = pytest.mark.live

RACE = "R"
PROMISED_S = 5.0
MARGIN = 6.0
AWAY_S = 2.5
SOAK_AWAY_S = 30.0
"""Long enough for every wait between two attempts to have grown to its longest."""


@contextmanager
def fallen(site: Site, database: Server, press: Press, part: str, how: str) -> Iterator[None]:
    """It is back when the block has ended."""
    server = {"broker": site.at.broker, "postgres": database, "redis": site.at.redis}.get(part)
    proxy: Proxy | None = getattr(site, part) if part != "daemon" else None
    if how == "hole" and proxy is not None:
        proxy.black_hole(True)
        yield
        proxy.black_hole(False)
    elif server is None:
        site.daemon.kill()
        yield
        site.daemon.start(ready=False)
    elif how == "freeze":
        server.sigstop()
        yield
        server.sigcont()
    else:
        if how == "stop":
            server.stop()
        elif part == "broker":
            site.kill_broker(press)
        else:
            server.kill()
        yield
        server.start()


def stored_since(site: Site, ms: int) -> bool:
    sql = b"select exists (select from tracking_positions where client_timestamp >= to_timestamp(%s / 1000.0))"
    with psycopg.connect(conninfo(site.at.postgres)) as db:
        found = db.execute(sql, (ms,)).fetchone()
    return found is not None and bool(found[0])


@contextmanager
def racing(folder: Path) -> Iterator[tuple[Site, Server, Press]]:
    """A site with a PostgreSQL of its own, trackers and a dashboard. Whatever was promised holds in the end."""
    (folder / "postgres").mkdir()
    with start_postgres(folder / "postgres") as database:
        address = PostgresAddress(database.host, database.port, database="postgres")
        with running_site(folder, address) as site, site.race_day(RACE, rate=50) as (press, spectator):
            until(lambda: len(seen(site.at, RACE)) == press.participants, "everybody is in Redis")
            yield site, database, press
            check(site.at, site.daemon.running, press, [spectator])
            assert site.daemon.stop() == 0


def recovered(site: Site, database: Server, press: Press, part: str, how: str, away_s: float) -> float:
    """Seconds from the return of the part to the first new row."""
    with fallen(site, database, press, part, how):
        time.sleep(away_s)
    back, back_ms = time.monotonic(), now_ms()
    if part == "redis":
        until(lambda: max(seen(site.at, RACE).values(), default=0) >= back_ms, "new in Redis")
    else:
        until(lambda: stored_since(site, back_ms), f"stored after {part} was back")
    took_s = time.monotonic() - back
    print(f"{part} {how} for {away_s:g} s: first new row after {took_s:.2f} s")
    return took_s


def test_the_first_new_row(tmp_path: Path) -> None:
    """One part after the other, in one race."""
    with racing(tmp_path) as (site, database, press):
        for part, how in (("broker", "stop"), ("postgres", "kill"), ("redis", "kill"), ("daemon", "kill")):
            assert recovered(site, database, press, part, how, AWAY_S) < PROMISED_S * MARGIN, part


@pytest.mark.soak
@pytest.mark.parametrize("how", ["stop", "kill", "freeze", "hole"])
@pytest.mark.parametrize("part", ["broker", "postgres", "redis"])
def test_the_first_new_row_after_long(tmp_path: Path, part: str, how: str) -> None:
    with racing(tmp_path) as (site, database, press):
        assert recovered(site, database, press, part, how, SOAK_AWAY_S) < PROMISED_S
