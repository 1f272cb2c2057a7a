"""The spool, with PostgreSQL gone: its disk full, itself full, the daemon killed. Nothing acknowledged is lost."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.outage import Own, RaceDay, race_day
from tests.faults.small_disk import SmallDisk, small_disk
from tests.kit.daemon import until
from tests.kit.live_state import snapshot
from tests.kit.metrics import conserved

pytestmark = pytest.mark.live

SOON: dict[str, object] = {"spool_after_s": 1}
MIB = 1024 * 1024


@contextmanager
def spooling_to_a_disk(own: Own, folder: Path, race: str) -> Iterator[tuple[SmallDisk, RaceDay]]:
    """PostgreSQL is away, and data_dir on a small disk."""
    with (
        small_disk(folder / "disk") as disk,
        own.race(race, rate=200, app={"data_dir": disk.folder}, postgres=SOON) as day,
    ):
        own.server.stop()
        until(lambda: day.metric("fixes_spooled") > 100)
        yield disk, day


def test_a_full_disk_stops_acknowledgements_until_there_is_room(own: Own, tmp_path: Path) -> None:
    """PostgreSQL is away all the time: room alone is enough."""
    with spooling_to_a_disk(own, tmp_path, "disk-full") as (disk, day):
        disk.fill()
        day.takes_nothing("spool", "no space left")
        disk.make_room()
        day.flows(100)
        day.dashboards_follow()
        assert day.running.get("/readyz/ingest")[0] == 200
        own.server.start()
        day.check()


def test_a_disk_that_stays_full_drains_when_postgresql_is_back(own: Own, tmp_path: Path) -> None:
    with spooling_to_a_disk(own, tmp_path, "disk-stays-full") as (disk, day):
        disk.fill()
        day.takes_nothing("spool", "no space left")
        own.server.start()
        day.check()
        assert day.running.get("/readyz/ingest")[0] == 200


def test_a_file_removed_under_us_is_drained_all_the_same(own: Own, tmp_path: Path) -> None:
    """What is in it lives as long as the process: it takes no more until that is in PostgreSQL."""
    with own.race("removed", rate=200, app={"data_dir": tmp_path / "data"}, postgres=SOON) as day:
        own.server.stop()
        until(lambda: day.metric("fixes_spooled") > 100)
        for file in (tmp_path / "data").glob("spool*"):
            file.unlink(missing_ok=True)
        day.takes_nothing("spool", "was removed")
        own.server.start()
        day.check()
        assert day.running.get("/readyz/ingest")[0] == 200


def test_a_damaged_file_loses_its_damaged_pages_alone(own: Own, tmp_path: Path) -> None:
    """One of them goes bad between two lives of the daemon: the second one moves the rest over, and says so."""
    data = tmp_path / "data"
    with (
        own.settings(app={"data_dir": data}, postgres=SOON),
        own.at.daemon() as first,
        race_day(own.at, first, "damaged", 1000) as day,
    ):
        own.server.stop()
        until(lambda: day.metric("fixes_spooled") > 5000)
        assert first.stop() == 0
        with (data / "spool.sqlite").open("r+b") as pages:
            pages.seek(os.stat(pages.fileno()).st_size // 2 // 4096 * 4096)
            pages.write(b"\xa5" * 4096)
        with own.at.daemon(ready=False) as second:
            day = RaceDay(own.at, second, day.press, day.spectator)
            until(lambda: day.spectator.connected == 2, "the dashboard is back")
            until(lambda: "the spool was damaged" in second.log, "it is said")
            own.server.start()
            day.flows(1000)  # everybody has moved since
            lost = set(day.press.sent)
            day.check(may_be_lost=lost)  # at rest: but rows are looked at before that is known
            seen = day.check(may_be_lost=lost)
            assert len(day.press.sent) - 100 < len(seen.rows) <= len(day.press.sent)


def test_sigterm_while_the_spool_is_full(own: Own) -> None:
    """The drain is cut short after its time, with 1: the broker keeps what is not durable."""
    with own.race("stop", rate=1000, postgres=SOON | {"spool_max_mb": 1}, supervisor={"drain_timeout_s": 2}) as day:
        own.server.stop()
        day.until_down("spool", "is full")
        unacked = day.metric("messages_unacked")
        assert day.running.stop() == 1
        (line,) = [line for line in day.running.log.splitlines() if "the broker keeps the rest" in line]
        assert int(line.rpartition("messages_left=")[2].split()[0]) >= unacked > 0
        own.server.start()
        with own.at.daemon() as second:
            day = RaceDay(own.at, second, day.press, day.spectator)
            assert day.metric("fixes_recovered_total") > 0
            day.check()


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
        first.kill()
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
