"""Many races that begin at once beside a steady load: what it costs until each of them has been restored.

At first nobody has heard of these races. Then a daemon that was started again restores them from PostgreSQL and Redis.
CPU is the daemon's, PostgreSQL's and Redis's together; `more` is what is left of it without the steady load's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import attrs
import psycopg
from redis import Redis

from tests.benchmarks import report
from tests.benchmarks.load import Load, new_race, publisher
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site
from tests.benchmarks.subject import Place, Subject, daemon_place
from tests.kit.station import conninfo

STEADY_S = 2.0  # that the steady load is measured for alone
QUIET_S = 8.0  # beyond the time after which a race that was not answered asks again
WITHIN_S = 150.0
POLL_S = 0.1
TICKS_PER_S = 100

COLUMNS = {
    "live_s": "live after s",
    "restored_s": "restored after s",
    "cpu_s": "CPU until then, s",
    "daemon_s": "daemon",
    "postgres_s": "PostgreSQL",
    "redis_s": "Redis",
    "more_s": "more",
    "held": "passes > 50 ms",
}
ASKED = "select max(state_change) from pg_stat_activity where application_name = 'race-tracking reader'"


@attrs.frozen
class Moment:
    """CPU seconds so far, at a time of time.monotonic()."""

    at_s: float
    daemon_s: float
    postgres_s: float
    redis_s: float

    @property
    def cpu_s(self) -> float:
        """Of all."""
        return self.daemon_s + self.postgres_s + self.redis_s


def now(site: Site, subject: Subject) -> Moment:
    """This moment."""
    return Moment(time.monotonic(), subject.cpu_s(), family_s(site.postgres.pid), family_s(site.redis.pid))


def family_s(pid: int) -> float:
    """CPU of a process, its children that live, and those that have ended."""
    spent = ticks(pid, 4)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            spent += ticks(int(child), 2)
    return spent / TICKS_PER_S


def ticks(pid: int, fields: int) -> int:
    """utime and stime of proc_pid_stat(5), and for 4 `fields` those of waited-for children."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11 : 11 + fields]))


def until_restored(site: Site, subject: Subject, keys: int) -> tuple[Moment, Moment]:
    """When Redis has so many keys, so that all are live, and when PostgreSQL was asked for the last time."""
    live: Moment | None = None
    asked, last = now(site, subject), None
    cache = Redis(port=site.redis.port)
    deadline = time.monotonic() + WITHIN_S
    with psycopg.connect(conninfo(site.database("postgres")), autocommit=True) as connection:
        while live is None or time.monotonic() < max(asked.at_s, live.at_s) + QUIET_S:
            assert time.monotonic() < deadline, f"{cache.dbsize()} of {keys} keys"
            row = connection.execute(ASKED).fetchone()
            if row and row[0] and row[0] != last:
                asked, last = now(site, subject), row[0]
            if live is None and cache.dbsize() >= keys:
                live = now(site, subject)
            time.sleep(POLL_S)
    return live, asked


def measure(site: Site, place: Place, begin: Load, race_id: str, rate: int) -> dict[str, float]:
    """A daemon of its own, for which `begin` is published at once, with one new participant of each race."""
    with ExitStack() as stack:
        subject = stack.enter_context(place.daemon())
        steady = Load("steady", int(rate * WITHIN_S), rate)
        press = stack.enter_context(publisher(site, new_race(), steady))
        start = stack.enter_context(publisher(site, race_id, begin))
        press.go()
        time.sleep(STEADY_S)
        alone = now(site, subject)
        time.sleep(STEADY_S)
        keys = Redis(port=site.redis.port).dbsize() + begin.races
        begun, held = now(site, subject), subject.passes_held()
        start.go()
        live, end = until_restored(site, subject, keys)
        held = subject.passes_held() - held
    spent_s, lasted_s = end.cpu_s - begun.cpu_s, end.at_s - begun.at_s
    return {
        "live_s": live.at_s - begun.at_s,
        "restored_s": lasted_s,
        "cpu_s": spent_s,
        "daemon_s": end.daemon_s - begun.daemon_s,
        "postgres_s": end.postgres_s - begun.postgres_s,
        "redis_s": end.redis_s - begun.redis_s,
        "more_s": spent_s - (begun.cpu_s - alone.cpu_s) / (begun.at_s - alone.at_s) * lasted_s,
        "held": held,
    }


def measure_round(site: Site, folder: Path, args: argparse.Namespace) -> Rows:
    """Races of a new database with one participant, and once more by another daemon: with a second one."""
    site.afresh("daemon")
    place = daemon_place(site, folder, "daemon", {"app": {"max_races": args.races + 1}})
    race_id = new_race()
    rows: Rows = {}
    for each, what in enumerate(("new races", "races, by a daemon that was started again"), 1):
        begin = Load(what, each * args.races, 0, each * args.races, args.races)
        add(rows, f"{args.races:,} {what}", measure(site, place, begin, race_id, args.rate))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = report.options("begin", __doc__, repeat=3)
    parser.add_argument("--rate", type=int, default=2000, help="messages a second of the steady load (default 2000)")
    parser.add_argument("--races", type=int, default=10_000, help="that begin at once (default 10000)")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.races = 1, 500
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        for turn in range(args.repeat):
            for what, results in measure_round(site, Path(name) / f"daemon-{turn}", args).items():
                rows.setdefault(what, []).extend(results)
    report.show(f"races that begin at once, beside {args.rate:,} messages a second", COLUMNS, rows)
    report.write(args, rows)


if __name__ == "__main__":
    main()
