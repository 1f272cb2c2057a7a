"""The daemon killed at chosen points between a message and its acknowledgement; a reply of COMMIT that never comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.site import Site, running_site
from tests.kit.daemon import until
from tests.kit.expected import fix, row
from tests.kit.metrics import conserved

pytestmark = pytest.mark.live

COUNT = 20
INSERTED = b"INSERT 0 "
"""How PostgreSQL says that a batch is committed: each is one statement and one transaction."""

PUBACK_BYTES = 4

GATE = """
create function wait() returns trigger language plpgsql as
  'begin perform pg_advisory_xact_lock_shared(1); return null; end';
create constraint trigger gate after insert on tracking_positions deferrable initially deferred
  for each row execute function wait()"""
"""Deferred: it runs in COMMIT, when all rows are inserted."""

WAITING = "select pid from pg_locks where locktype = 'advisory' and not granted"
WRITERS = "select pid from pg_stat_activity where application_name = 'race-tracking writer' and datname = %s"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Site]:
    # A long keepalive: a PINGREQ among the acknowledgements would shift what is counted.
    with running_site(tmp_path_factory.mktemp("crash"), postgres_server, mqtt={"keepalive_s": 600}) as made:
        yield made


@pytest.fixture
def site(servers: Site) -> Iterator[Site]:
    yield servers
    servers.calm()


def fixes(race: str) -> list[dict[str, Any]]:
    return [fix(race, f"P{number}") for number in range(COUNT)]


def again(site: Site, race: str, *, stored: int, redelivered: int) -> None:
    """A new life, in which the broker sends again what was not acknowledged: everything is there, once."""
    sent = fixes(race)
    running = site.daemon.start()
    seen = running.settled(redelivered)
    assert site.at.rows(race) == sorted(map(row, sent))
    assert seen["tracking_messages_received_total"] == redelivered
    assert seen["tracking_fixes_committed_total"] == COUNT - stored
    assert seen["tracking_fixes_duplicate_total"] == redelivered - (COUNT - stored)
    assert conserved(seen)
    assert set(running.live(race)) == {one["participant_id"] for one in sent}
    assert site.daemon.stop() == 0


@pytest.mark.parametrize("outcome", ["commits", "rolls back"])
def test_killed_between_insert_and_commit(site: Site, outcome: str) -> None:
    at, race = site.at, f"insert-{outcome.partition(' ')[0]}"
    site.daemon.start()
    at.db.execute(GATE)
    at.db.execute("select pg_advisory_lock(1)")
    at.send(*fixes(race))
    until(lambda: at.db.execute(WAITING).fetchall(), "the batch waits in COMMIT")
    assert at.rows(race) == []
    site.daemon.kill()
    if outcome == "rolls back":
        at.db.execute("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted")
    at.db.execute("select pg_advisory_unlock(1)")
    until(lambda: not at.db.execute(WRITERS, (at.postgres.database,)).fetchall(), "its backend ended")
    stored = len(at.rows(race))
    assert bool(stored) == (outcome == "commits")
    at.db.execute("drop trigger gate on tracking_positions; drop function wait")
    again(site, race, stored=stored, redelivered=COUNT)


def test_killed_between_commit_and_its_reply(site: Site) -> None:
    at, race = site.at, "commit"
    site.daemon.start()
    held = site.postgres.hold("client", INSERTED)
    at.send(*fixes(race))
    held.wait()
    stored = len(at.rows(race))
    assert stored
    site.daemon.kill()
    site.postgres.release()
    again(site, race, stored=stored, redelivered=COUNT)


@pytest.mark.parametrize("offset", [0, 1, COUNT // 2 * PUBACK_BYTES, COUNT // 2 * PUBACK_BYTES + 3])
def test_killed_with_a_part_of_the_acknowledgements_sent(site: Site, offset: int) -> None:
    at, race = site.at, f"ack-{offset}"
    site.daemon.start()
    held = site.broker.cut_after(to_server=offset, how="hold")
    at.send(*fixes(race))
    until(lambda: len(at.rows(race)) == COUNT)
    held.wait()
    site.daemon.kill()
    # What is held never arrives: the next life takes the session over, and that ends the old connection.
    again(site, race, stored=COUNT, redelivered=COUNT - offset // PUBACK_BYTES)


def test_a_reply_of_commit_that_is_lost(site: Site) -> None:
    """The batch is written again, and is the same rows."""
    at, race = site.at, "reply"
    running = site.daemon.start()
    dropped = site.postgres.drop_reply(INSERTED)
    at.send(*fixes(race))
    dropped.wait()
    seen = running.settled(COUNT)
    assert at.rows(race) == sorted(map(row, fixes(race)))
    assert seen["tracking_fixes_committed_total"] + seen["tracking_fixes_duplicate_total"] == COUNT
    assert seen["tracking_fixes_duplicate_total"] > 0
    assert conserved(seen)
    assert site.daemon.stop() == 0
