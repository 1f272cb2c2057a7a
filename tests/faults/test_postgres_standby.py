"""A synchronous standby is away, comes back, is promoted: what the daemon acknowledged is never only on the primary."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from actors.settings.load import Secret
from tests.kit.daemon import Running, until
from tests.kit.expected import fix, fix_id
from tests.kit.metrics import conserved
from tests.kit.standby import NAME, Pair, sql, start_pair
from tests.kit.station import Station, station

pytestmark = pytest.mark.live


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    (tmp_path / "postgres").mkdir()
    with start_pair(tmp_path / "postgres") as made:
        yield made


def restart(pair: Pair) -> None:
    """As a package upgrade does."""
    pair.primary.stop()
    pair.primary.start()


def cancel(pair: Pair) -> None:
    """The wait alone, as a DBA does who sees a query that hangs: the session is told that all went well."""
    sql(pair.primary, "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")


@contextmanager
def daemon(pair: Pair, folder: Path, **postgres: object) -> Iterator[tuple[Station, Running]]:
    server = pair.primary
    address = PostgresAddress(server.host, server.port, server.username, Secret(""), server.database)
    with station(folder, address, postgres={"spool_after_s": 1} | postgres) as at, at.daemon() as running:
        at.send(fix("standby"))
        assert running.settled(1)["tracking_fixes_committed_total"] == 1
        yield at, running


def waits(running: Running) -> float:
    """Fixes that the daemon still answers for: it has not acknowledged them, or has them in its spool."""
    seen = running.metrics()
    assert conserved(seen), seen
    return seen["tracking_fixes_in_flight"] + seen["tracking_fixes_spooled"]


@pytest.mark.parametrize(("spool", "let_it_go"), [("no", restart), ("yes", restart), ("no", cancel)])
def test_a_row_that_the_primary_alone_has_is_not_durable(
    pair: Pair, tmp_path: Path, spool: str, let_it_go: Callable[[Pair], None]
) -> None:
    """It is there, but its commit was cut short: written again it is a duplicate, which has to wait all the same."""
    with daemon(pair, tmp_path, spool=spool) as (at, running):
        pair.standby.kill()
        only = fix("standby", at="2026-06-01T08:00:01Z")
        at.send(only)
        until(pair.commits_waiting, "it is inserted, its commit waits")
        if spool == "yes":
            until(lambda: running.metrics()["tracking_fixes_spooled"] == 1, "it is in the spool, too")
        let_it_go(pair)
        find = f"select 1 from tracking_positions where id = '{fix_id(only)}'"
        until(lambda: sql(pair.primary, find, at.postgres.database), "the primary shows it")
        until(lambda: pair.commits_waiting() or not waits(running), "it is written again")
        pair.fail_over()
        until(lambda: sql(pair.primary, find, at.postgres.database) or not waits(running), "it is let go")
        assert sql(pair.primary, find, at.postgres.database), f"acknowledged and lost:\n{running.log[-2000:]}"
        until(lambda: not waits(running), "it is let go")
        assert running.metrics()["tracking_acks_total"] == 2


def test_what_it_waits_for_is_said_while_it_does(pair: Pair, tmp_path: Path) -> None:
    """And nothing more hangs; once the standby is back all of it goes on by itself."""
    with daemon(pair, tmp_path) as (at, running):
        pair.standby.kill()
        at.send(*(fix("standby", at=f"2026-06-01T08:00:{second:02}Z") for second in range(1, 11)))
        why = f"waits for a synchronous standby (synchronous_standby_names = '{NAME}', 0 attached)"

        def said() -> bool:
            component = json.loads(running.get("/readyz")[1])["components"]["postgres"]
            return not component["up"] and component["detail"] == why

        until(said, why)
        at.send(fix("standby", at="2026-06-01T08:01:00Z"))
        assert running.settled(12)["tracking_fixes_spooled"] == 11
        assert said()
        assert pair.commits_waiting() == 1
        assert running.log.count(why) == 1
        pair.attach()
        until(lambda: not waits(running), "it drains")
        assert len(at.rows("standby")) == 12
