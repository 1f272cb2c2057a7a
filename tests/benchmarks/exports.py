"""A whole race as a file over HTTP: how long it takes, what it costs, and what it needs of memory and of disk.

The race's participants take turns, as they do on the air: neighbours in the table are different people's rows.
"""

from __future__ import annotations

import http.client
import tempfile
import time
from pathlib import Path

from actors.history.export import FORMATS
from tests.benchmarks import report
from tests.benchmarks.answers import DATABASE, make_table
from tests.benchmarks.begin import family_s
from tests.benchmarks.report import Rows, add
from tests.benchmarks.site import Site, start_site
from tests.benchmarks.subject import Subject, daemon_place
from tests.kit.tokens import token

RACE = "R1"
READ_BYTES = 1 << 20
SILENCE_S = 120.0
POLL_S = 0.05

COLUMNS = {
    "all_s": "s",
    "first_s": "first byte after s",
    "silent_s": "longest silence s",
    "row_us": "µs a row",
    "daemon_us": "CPU a row, µs: daemon",
    "postgres_us": "PostgreSQL",
    "mb": "MB",
    "before_mib": "memory before, MiB",
    "peak_mib": "at most",
    "sorted_mb": "sorted on disk, MB",
}
FILL = f"""
    insert into tracking_positions
        (participant_id, race_id, latitude, longitude, client_timestamp, server_received_at, status)
      select 'P' || (n + n / {{participants}} * 7) % {{participants}}, '{RACE}',
        (470000000 + n * 7919 % 9999991) * 0.0000001, (110000000 + n * 6007 % 9999991) * 0.0000001,
        moment, moment + interval '40 ms', case when n % 10 = 0 then 'stopped' else 'moving' end::participant_status
      from (select n, timestamptz '2026-01-01' + n * interval '5 ms' as moment
        from generate_series(0, {{rows}}::bigint - 1) as n) as numbered"""
READERS = "select count(*) from pg_stat_activity where application_name = 'race-tracking reader'"
TEMPORARY = "select temp_bytes from pg_stat_database where datname = current_database()"


def taken(port: int, name: str) -> tuple[float, float, int]:
    """Seconds to the first byte, the longest that none came from there on, and how many bytes came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SILENCE_S)
    began = last = time.perf_counter()
    connection.request("GET", f"/api/races/{RACE}/export?format={name}", headers={"Authorization": f"Bearer {token()}"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    first_s = silent_s = 0.0
    size = 0
    while piece := answer.read1(READ_BYTES):
        now = time.perf_counter()
        if size:
            silent_s = max(silent_s, now - last)
        else:
            first_s = now - began
        size, last = size + len(piece), now
    connection.close()
    return first_s, silent_s, size


def measure(site: Site, subject: Subject, name: str, rows: int) -> dict[str, float]:
    """One export in this format."""
    Path(f"/proc/{subject.process.pid}/clear_refs").write_text("5")  # VmHWM begins anew: proc_pid_clear_refs(5)
    memory, temporary = subject.memory_mib(), site.sql(DATABASE, TEMPORARY)[0][0]
    daemon_s, postgres_s, began_s = subject.cpu_s(), family_s(site.postgres.pid), time.monotonic()
    first_s, silent_s, size = taken(subject.port, name)
    all_s, daemon_s = time.monotonic() - began_s, subject.cpu_s() - daemon_s
    while site.sql(DATABASE, READERS)[0][0]:  # its connection tells what it sorted when it ends
        time.sleep(POLL_S)
    return {
        "all_s": all_s,
        "first_s": first_s,
        "silent_s": silent_s,
        "row_us": all_s / rows * 1e6,
        "daemon_us": daemon_s / rows * 1e6,
        "postgres_us": (family_s(site.postgres.pid) - postgres_s) / rows * 1e6,
        "mb": size / 1e6,
        "before_mib": memory,
        "peak_mib": subject.memory_mib("VmHWM"),
        "sorted_mb": (site.sql(DATABASE, TEMPORARY)[0][0] - temporary) / 1e6,
    }


def main() -> None:
    """Measure, print, write."""
    parser = report.options("exports", __doc__, repeat=1)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the race (default 10000000)")
    parser.add_argument("--participants", type=int, default=200, help="among whom they are (default 200)")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS), help="default: all")
    args = parser.parse_args()
    if args.quick:
        args.repeat, args.rows = 1, 20_000
    rows: Rows = {}
    report.begin()
    with tempfile.TemporaryDirectory(prefix="tracking-bench-") as name, start_site(Path(name), args.program) as site:
        folder = Path(name)
        made = make_table(site, folder / "migrate", FILL.format(rows=args.rows, participants=args.participants))
        report.say(f"table: filled in {made['fill_s']:.1f} s, migrate took {made['migrate_s']:.1f} s")
        place = daemon_place(site, folder / "daemon", DATABASE, {})
        for _ in range(args.repeat):
            for each in args.formats:
                with place.daemon() as subject:
                    add(rows, each, measure(site, subject, each, args.rows))
    report.show(f"a race of {args.rows:,} rows of {args.participants:,} participants", COLUMNS, rows)
    report.write(args, rows)


if __name__ == "__main__":
    main()
