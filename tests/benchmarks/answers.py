"""How long a dashboard waits for snapshot, list of races and history, on a large table: a part of growth.py.

The table is made by SQL: BIG is a race of many participants with a tenth of the rows, the others share the rest evenly.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.benchmarks.load import Load, measure
from tests.benchmarks.report import Rows, add, say
from tests.benchmarks.site import Site
from tests.benchmarks.subject import Subject, daemon_place
from tests.benchmarks.websocket import DIALECTS, WebSocket, connect
from tests.kit.daemon import ROOT

DATABASE = "history"
BIG = "BIG"
BIG_PARTICIPANTS = 10_000
LIVE = "LIVE"
OTHER_RACES = 999  # with BIG: as many as list_races shows
OTHER_PARTICIPANTS = 100  # in each of them
PAUSE_S = 0.03
"""Between questions: fewer than max_requests_per_s."""

COLUMNS = {
    "first_ms": "first ms",
    "p50_ms": "then p50",
    "p99_ms": "p99",
    "max_ms": "max ms",
    "items": "items",
    "kb": "kB",
}
FILL = f"""
    insert into tracking_positions
        (participant_id, race_id, latitude, longitude, client_timestamp, server_received_at)
      select case when big then 'P' || n / 10 % {BIG_PARTICIPANTS}
          else 'P' || n / 10 / {OTHER_RACES} % {OTHER_PARTICIPANTS} end,
        case when big then '{BIG}' else 'R' || n / 10 % {OTHER_RACES} end,
        -7.9 + n % 1000 * 0.0001, 112.6 + n % 777 * 0.0001, moment, moment
      from (select n, n % 10 = 0 as big, timestamptz '2026-01-01' + n * interval '10 ms' as moment
        from generate_series(0, {{rows}} - 1) as n) as numbered"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of this half."""
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the large table (default 10000000)")
    parser.add_argument("--questions", type=int, default=100, help="of each kind (default 100)")


def make_table(site: Site, folder: Path, fill: str) -> dict[str, float]:
    """The table without indexes, filled by that statement; then `migrate` makes the rest, as for an old table."""
    schema = (ROOT / "schema.sql").read_text()
    site.afresh(DATABASE, schema[: schema.index("-- object: index")] + "commit;")
    began = time.monotonic()
    # An index of random ids would take most of the time, row by row.
    site.sql(DATABASE, "alter table tracking_positions drop constraint tracking_positions_pkey")
    site.sql(DATABASE, fill)
    site.sql(DATABASE, "alter table tracking_positions add primary key (id)")
    filled = time.monotonic()
    settings = daemon_place(site, folder, DATABASE, {}).settings
    subprocess.run(
        [sys.executable, str(site.program), "--settings", str(settings), "migrate"], check=True, stdout=sys.stderr
    )
    migrated = time.monotonic()
    site.sql(DATABASE, "vacuum analyze tracking_positions")
    site.sql(DATABASE, "checkpoint")
    return {"fill_s": filled - began, "migrate_s": migrated - filled}


def timed(question: Callable[[], bytes], times: int) -> dict[str, float]:
    """From asking to having the last byte of the answer."""
    took_ms = []
    answer = b""
    for _ in range(times):
        time.sleep(PAUSE_S)
        began = time.perf_counter()
        answer = question()
        took_ms.append((time.perf_counter() - began) * 1000)
    found = {"first_ms": took_ms[0], "items": answer.count(b'"raceId"'), "kb": len(answer) / 1024}
    if later := sorted(took_ms[1:]):
        found |= {"p50_ms": later[len(later) // 2], "p99_ms": later[len(later) * 99 // 100], "max_ms": later[-1]}
    return found


def dashboard(subject: Subject, dialect: str = "daemon") -> WebSocket:
    """A connection that has subscribed to nothing."""
    return connect(subject.port, DIALECTS[dialect].path, offer=DIALECTS[dialect].offer)


def measure_answers(site: Site, folder: Path, args: argparse.Namespace) -> Rows:
    """All questions, to a daemon that has just been started on the large table."""
    folder.mkdir()
    rows: Rows = {}
    made = make_table(site, folder / "migrate", FILL.format(rows=args.rows))
    say(f"table: filled in {made['fill_s']:.1f} s, migrate took {made['migrate_s']:.1f} s")
    place = daemon_place(site, folder / "daemon", DATABASE, {})
    with place.daemon() as subject:
        ask = dashboard(subject).ask
        add(
            rows,
            f"snapshot of {BIG_PARTICIPANTS:,} participants, after a start",
            timed(lambda: ask("subscribe_race", {"raceId": BIG}, "race_snapshot"), args.questions),
        )
        questions: dict[str, tuple[str, dict[str, object], str]] = {
            "list_races": ("list_races", {}, "races"),
            "get_history, a race": ("get_history", {"raceId": "R7"}, "history"),
            "get_history, the big race": ("get_history", {"raceId": BIG}, "history"),
            "get_history, a participant": ("get_history", {"raceId": BIG, "participantId": "P77"}, "history"),
            "get_history, the big race from a moment on": (
                "get_history",
                {"raceId": BIG, "from": "2026-01-01T01:00:00Z", "limit": 100},
                "history",
            ),
        }
        for name, question in questions.items():
            add(rows, name, timed(lambda question=question: ask(*question), args.questions))  # type: ignore[misc]
        live = Load("live", BIG_PARTICIPANTS, 0, BIG_PARTICIPANTS)
        measure(site, subject, live, 0, LIVE)
        for name, dialect in (("live", "daemon"), ("live, compressed", "compressed")):
            ask = dashboard(subject, dialect).ask
            snapshot = partial(ask, "subscribe_race", {"raceId": LIVE}, "race_snapshot")
            add(rows, f"snapshot of {BIG_PARTICIPANTS:,} participants, {name}", timed(snapshot, args.questions))
            page = partial(ask, "get_history", {"raceId": BIG, "limit": BIG_PARTICIPANTS}, "history")
            add(rows, f"get_history, {BIG_PARTICIPANTS:,} of the big race, {name}", timed(page, args.questions))
    with place.daemon() as subject:
        ask = dashboard(subject).ask
        add(
            rows,
            f"snapshot of {BIG_PARTICIPANTS:,} participants, live before a restart",
            timed(lambda: ask("subscribe_race", {"raceId": LIVE}, "race_snapshot"), args.questions),
        )
    return rows | {"making the table": [made]}
