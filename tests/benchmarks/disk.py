"""The disk of history: bytes a row of the table and of each index, and what other indexes or settings would change.

Rows are written by the daemon's own writer as they come on the air, the participants of several races mixed, into a
table with all its indexes: an index built afterwards is packed tighter. Each form has a database of its own.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import trio

from actors.core.addresses import PostgresAddress
from actors.core.fix import Fix
from actors.core.identity import fix_id
from actors.core.timestamps import EARLIEST_MS
from actors.history.postgres.reader import PostgresHistory
from actors.history.postgres.writer import PostgresWriter
from actors.history.queries import HistoryQuery
from tests.benchmarks import report
from tests.benchmarks.begin import family_s
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site

TABLE, FIFTH = "tracking_positions", "idx_tracking_race_participant_timestamp"
TIMES = 15
ALL = (
    "tracking_positions_pkey", "idx_tracking_participant_id", "idx_tracking_race_id",
    "idx_tracking_participant_timestamp", "idx_tracking_race_timestamp", FIFTH,
)  # fmt: skip
LOOSE = ALL[3:]
"""Whose pages are split in halves that stay so: each participant, or race, goes on in the midst of the others."""
REORDERED = """
    create table reordered (id uuid primary key default gen_random_uuid(), client_timestamp timestamptz not null,
      server_received_at timestamptz not null default now(), status participant_status not null default 'moving',
      participant_id varchar(50) not null, race_id varchar(50) not null,
      latitude numeric(10, 7) not null, longitude numeric(10, 7) not null)"""

FORMS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "BRIN on both moments": (f"create index brin on {TABLE} using brin (client_timestamp, server_received_at)",),
    "fifth index covers the row": (
        f"drop index {FIFTH}",
        f"create index {FIFTH} on {TABLE} (race_id, participant_id, client_timestamp)"
        " include (id, latitude, longitude, server_received_at, status)",
    ),
    "indexes with fillfactor 70": tuple(f"alter index {each} set (fillfactor = 70)" for each in ALL),
    "indexes without deduplication": tuple(f"alter index {each} set (deduplicate_items = off)" for each in ALL),
    "names behind the fixed columns": (
        f"drop table {TABLE} cascade",
        REORDERED,
        f"alter table reordered rename to {TABLE}",
        f"alter index reordered_pkey rename to {ALL[0]}",
    ),
}
"""Name -> what is done to the empty tables of schema.sql; the daemon makes what is missing afterwards."""

COLUMNS = {
    "row_bytes": "bytes a row",
    "reindexed_bytes": "after REINDEX",
    "table_bytes": "table",
    **{name: name.removeprefix("idx_tracking_").removeprefix("tracking_positions_") for name in (*ALL, "brin")},
    "insert_us": "insert: µs a row",
    "postgres_us": "PostgreSQL's CPU",
    "newest_ms": "newest ms",
    "races_ms": "races ms",
    "page_ms": "page ms",
    "by_time_us": "export µs a row",
    "by_participant_us": "by participant",
    "reindex_us": "REINDEX µs a row",
}
SIZES = """
    select relname::text, pg_relation_size(oid) from pg_class
      where relname in ('tracking_positions', 'brin') or oid in (
        select indexrelid from pg_index where indrelid = 'tracking_positions'::regclass)"""


def on_the_air(rows: int, races: int, participants: int) -> Iterator[list[Fix]]:
    """A batch is a second: a fix of each participant of each race, at a moment of its own."""
    chance = random.Random(1)
    people = [
        (f"RACE-2026-{race:02d}", f"P{race:02d}-{number:04d}", chance.randrange(1000))
        for race in range(races)
        for number in range(participants)
    ]
    places = [[chance.randrange(-600_000_000, 600_000_000), chance.randrange(-(10**9), 10**9)] for _ in people]
    start_ms = EARLIEST_MS + 10**12 // 2
    for second in range(rows // len(people)):
        batch = []
        for (race, person, phase), place in zip(people, places, strict=True):
            latitude, longitude = (degrees + chance.randrange(-500, 500) for degrees in place)
            place[:] = latitude, longitude
            moment = start_ms + second * 1000 + phase
            key = fix_id(race, person, moment, latitude, longitude, 0)
            batch.append(Fix(race, person, latitude, longitude, moment, 0, moment + 40, key))
        yield batch


async def timed_ms(question: Callable[[], Awaitable[object]]) -> float:
    """The median of some."""
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await question()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


async def row_us(history: PostgresHistory, race_id: str, by_participant: bool) -> float:
    """All rows of a race, as an export reads them."""
    began, rows = time.perf_counter(), 0
    async with history.stream(HistoryQuery(race_id), by_participant) as chunks:
        async for fixes in chunks:
            rows += len(fixes)
    return (time.perf_counter() - began) / rows * 1e6


async def measure(
    site: Site, address: PostgresAddress, change: tuple[str, ...], args: argparse.Namespace
) -> dict[str, float]:
    """One form."""
    writer, history = PostgresWriter(address), PostgresHistory(address)
    await writer.ping()
    await writer.aclose()
    for statement in change:
        site.sql(address.database, statement)
    await writer.ping()
    writing_s, written = 0.0, 0
    postgres_s = family_s(site.postgres.pid)
    for batch in on_the_air(args.rows, args.races, args.participants):
        began = time.perf_counter()
        written += await writer.store(batch)
        writing_s += time.perf_counter() - began
    postgres_s = family_s(site.postgres.pid) - postgres_s
    await writer.aclose()
    site.sql(address.database, "vacuum analyze tracking_positions")
    sizes = {name: size / written for name, size in site.sql(address.database, SIZES)}
    race = batch[0].race_id
    found = {
        "row_bytes": sum(sizes.values()),
        "table_bytes": sizes.pop(TABLE),
        **sizes,
        "insert_us": writing_s / written * 1e6,
        "postgres_us": postgres_s / written * 1e6,
        "newest_ms": await timed_ms(lambda: history.newest(race, 0)),
        "races_ms": await timed_ms(history.races),
        "page_ms": await timed_ms(lambda: history.history(HistoryQuery(race))),
        "by_time_us": await row_us(history, race, False),
        "by_participant_us": await row_us(history, race, True),
    }
    await history.aclose()
    began = time.perf_counter()
    for each in LOOSE:
        site.sql(address.database, f"reindex index concurrently {each}")
    found["reindex_us"] = (time.perf_counter() - began) / written * 1e6
    return found | {"reindexed_bytes": sum(size for _, size in site.sql(address.database, SIZES)) / written}


def main() -> None:
    """Measure, print, write."""
    parser = report.options("disk", __doc__, repeat=1)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of each form (default 10000000)")
    parser.add_argument("--races", type=int, default=10, help="that go on at once (default 10)")
    parser.add_argument("--participants", type=int, default=200, help="of each race (default 200)")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS), help="default: all")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.rows = 1, 20_000
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        for _ in range(args.repeat):
            for form in args.forms:
                address = site.afresh("disk")
                add(rows, form, trio.run(measure, site, address, FORMS[form], args))
    report.show(f"history of {args.rows:,} rows: bytes a row, and what it costs", COLUMNS, rows)
    report.write(args, rows)


if __name__ == "__main__":
    main()
