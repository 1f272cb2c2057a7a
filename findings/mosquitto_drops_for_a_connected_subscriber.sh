#!/bin/sh
# mosquitto 2.0.11 with its defaults answers PUBACK for QoS 1 messages and throws them away, although their only
# subscriber is connected all the time: it has merely not acknowledged for a moment. Nobody is told.
#
# Most expect that PUBACK means the message will be delivered, and that the limit of 1,000 queued messages
# (max_queued_messages) is about clients that are away. It counts beyond the 20 in flight (max_inflight_messages) for
# connected ones as well: a burst of 2,000 during a commit that takes a second ends with 1,020. What tells is
# $SYS/broker/publish/messages/dropped, for all clients together; max_queued_messages 1000000 mends it.
#
# Needs mosquitto (Debian's package) and Python 3.9 or newer. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
broker=
trap 'test -z "$broker" || kill "$broker"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check paho-mqtt==2.1.0
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\nsys_interval 1\n' "$port" >"$folder/mosquitto.conf"
mosquitto -c "$folder/mosquitto.conf" 2>"$folder/mosquitto.log" &
broker=$!
mosquitto -h | head -n 1
cat >"$folder/seen.py" <<'PYTHON'
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

PORT, SENT, KEPT = int(sys.argv[1]), 2000, 1020
came, dropped, subscribed = [], [], threading.Semaphore(0)


def client(name, **more):
    made = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv311, **more)
    made.on_subscribe = lambda *_: subscribed.release()
    made.max_inflight_messages_set(SENT)
    for _ in range(100):
        try:
            made.connect("127.0.0.1", PORT)
            break
        except OSError:  # it is starting
            time.sleep(0.1)
    made.loop_start()
    return made


def until(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


backend = client("backend", clean_session=False, manual_ack=True)
backend.on_message = lambda _client, _data, message: came.append(message)
backend.subscribe("tracking/+/position", 1)
watcher = client("watcher")
watcher.on_message = lambda _client, _data, message: dropped.append(int(message.payload))
watcher.subscribe("$SYS/broker/publish/messages/dropped")
for _ in range(2):
    assert subscribed.acquire(timeout=10)

tracker = client("tracker")
published = [tracker.publish("tracking/P001/position", str(number), 1) for number in range(SENT)]
for one in published:
    one.wait_for_publish(10)
print(f"{sum(one.is_published() for one in published)} of {SENT} published at QoS 1, each with its PUBACK")

acknowledged = 0
while until(lambda: len(came) > acknowledged) and acknowledged < SENT:
    backend.ack(came[acknowledged].mid, 1)
    acknowledged += 1
until(lambda: dropped and dropped[-1] > 0)
print(f"expected: all of them delivered; seen: {len(came)} delivered, connected: {backend.is_connected()}")
print(f"$SYS/broker/publish/messages/dropped: {dropped[-1]}")
sys.exit(0 if (len(came), dropped[-1]) == (KEPT, SENT - KEPT) else 1)
PYTHON
"$folder/venv/bin/python" "$folder/seen.py" "$port"
