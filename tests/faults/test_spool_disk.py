"""The spool, with PostgreSQL gone: its disk full, itself full, the daemon killed. Nothing acknowledged is lost."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.faults.outage import Own, RaceDay, race_day
from tests.faults.small_disk import small_disk
from tests.live.live_state import snapshot
from tests.live.station import conserved, until

pytestmark = pytest.mark.live

SOON: dict[str, object] = {"spool_after_s": 1}
MIB = 1024 * 1024


def test_a_full_disk_stops_acknowledgements_until_there_is_room(own: Own, tmp_path: Path) -> None:
    """PostgreSQL is away all the time: room alone is enough."""
    with (
        small_disk(tmp_path / "disk") as disk,
        own.race("disk-full", rate=200, app={"data_dir": disk.folder}, postgres=SOON) as day,
    ):
        own.server.stop()
        until(lambda: day.metric("fixes_spooled") > 100)
        disk.fill()
        day.takes_nothing("spool", "no space left")
        disk.make_room()
        day.flows(100)
        day.dashboards_follow()
        assert day.running.get("/readyz/ingest")[0] == 200
        own.server.start()
        day.check()


def test_a_disk_that_stays_full_drains_when_postgresql_is_back(own: Own, tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk") as disk,
        own.race("disk-stays-full", rate=200, app={"data_dir": disk.folder}, postgres=SOON) as day,
    ):
        own.server.stop()
        until(lambda: day.metric("fixes_spooled") > 100)
        disk.fill()
        day.takes_nothing("spool", "no space left")
        own.server.start()
        day.check()
        assert day.running.get("/readyz/ingest")[0] == 200


@pytest.mark.soak
def test_files_that_may_not_grow_are_as_good_as_a_full_disk(own: Own) -> None:
    with own.race("no-growth", rate=200, postgres=SOON) as day:
        own.server.stop()
        until(lambda: day.metric("fixes_spooled") > 100)
        _, most = resource.prlimit(day.running.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(day.running.process.pid, resource.RLIMIT_FSIZE, (MIB, most))
        day.takes_nothing("spool", "spool")
        resource.prlimit(day.running.process.pid, resource.RLIMIT_FSIZE, (most, most))
        day.flows(100)
        own.server.start()
        day.check()


def test_a_spool_that_holds_all_it_may_leaves_the_rest_to_the_broker(own: Own) -> None:
    with own.race("limit", rate=1000, postgres=SOON | {"spool_max_mb": 1}) as day:
        own.server.stop()
        day.takes_nothing("spool", "is full")
        own.server.start()
        day.check()
        assert day.running.get("/readyz/ingest")[0] == 200


def test_a_daemon_killed_meanwhile_finds_its_spool_again(own: Own) -> None:
    with (
        own.settings(postgres=SOON),
        own.at.daemon() as first,
        race_day(own.at, first, "found-again", 100) as day,
    ):
        own.server.stop()
        until(lambda: day.metric("fixes_spooled") > 200)
        first.process.kill()
        first.process.wait()
        with own.at.daemon(ready=False) as second:
            goes_on(own, RaceDay(own.at, second, day.press, day.spectator))


def goes_on(own: Own, day: RaceDay) -> None:
    race = day.press.race
    assert isinstance(race, str)
    until(lambda: day.spectator.connected == 2, "the dashboard is back")
    until(lambda: day.metric("fixes_recovered_total") >= 200, "it found its spool again")
    day.flows(100)
    day.dashboards_follow()
    assert snapshot(day.running, race)[race].keys() == day.running.live(race).keys()
    assert conserved(day.running.metrics())
    own.server.start()
    seen = day.check()
    assert seen.metrics["tracking_fixes_recovered_total"] >= 200
