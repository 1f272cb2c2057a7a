#!/bin/sh
# RabbitMQ 3.10.8 (Debian's rabbitmq-server, plugin rabbitmq_mqtt), MQTT 3.1.1: a client that comes back to its session
# and unsubscribes from a filter gets its UNSUBACK, and goes on getting messages of that filter, for ever.
#
# Most expect that UNSUBSCRIBE ends a subscription of the session, whichever connection made it (3.1.1, [MQTT-3.10.4-2]),
# as with mosquitto and NATS. Here the binding of the session's queue is only removed for filters that this very
# connection has subscribed to: SUBSCRIBE first, then UNSUBSCRIBE.
#
# Needs RabbitMQ with its plugin, run by a user who may execute /usr/lib/rabbitmq/bin, and Python 3.9 or newer. Exits with 1
# when this has changed.
set -eu
folder=$(mktemp -d)
server= epmd=
trap 'test -z "$server" || kill "$server"; test -z "$epmd" || kill "$epmd"; sleep 2; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check paho-mqtt==2.1.0
free() { venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free)
export HOME="$folder" ERL_EPMD_PORT="$(free)" ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME=n@localhost \
    RABBITMQ_DIST_PORT="$(free)" RABBITMQ_MNESIA_BASE="$folder/mnesia" RABBITMQ_LOG_BASE="$folder/log" \
    RABBITMQ_PID_FILE="$folder/pid" RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf" RABBITMQ_CONF_ENV_FILE=/dev/null \
    RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" RUNNING_UNDER_SYSTEMD=true
printf 'mqtt.listeners.tcp.1 = 127.0.0.1:%s\nmqtt.allow_anonymous = true\nlisteners.tcp = none\n' "$port" >rabbitmq.conf
echo '[rabbitmq_mqtt].' >enabled_plugins
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
epmd=$!
/usr/lib/rabbitmq/bin/rabbitmq-server >server.log 2>&1 &
server=$!
cat >seen.py <<'PYTHON'
import socket
import sys
import time

import paho.mqtt.client as mqtt

PORT = int(sys.argv[1])
for _ in range(600):
    try:
        socket.create_connection(("127.0.0.1", PORT)).close()
        break
    except OSError:
        time.sleep(0.1)


def connect(client_id, clean=False):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=clean)
    client.got, client.answered = [], 0
    client.on_message = lambda _c, _d, message: client.got.append(message.payload.decode())
    client.on_publish = client.on_subscribe = client.on_unsubscribe = lambda *_: setattr(client, "answered", client.answered + 1)
    client.connect("127.0.0.1", PORT)
    turn(client, client.is_connected, 5)
    return client


def turn(client, done, seconds):
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        client.loop(0.05)


def after_unsubscribing(subscribe_before):
    node = connect("node")
    node.subscribe("t/+", 1)
    turn(node, lambda: node.answered == 1, 5)
    node.disconnect()
    node = connect("node")
    wanted = 1
    if subscribe_before:
        node.subscribe("t/+", 1)
        wanted = 2
    node.unsubscribe("t/+")
    turn(node, lambda: node.answered == wanted, 5)
    tracker = connect("tracker", clean=True)
    for number in range(5):
        tracker.publish("t/1", str(number), 1)
    turn(tracker, lambda: tracker.answered == 5, 5)
    turn(node, lambda: False, 2)
    node.disconnect()
    connect("node", clean=True).disconnect()
    return len(node.got)


plain, subscribed = after_unsubscribing(False), after_unsubscribing(True)
print(f"UNSUBACK, then 5 published; expected: 0 delivered; seen: {plain}")
print(f"the same with a SUBSCRIBE before it on the new connection: {subscribed}")
sys.exit(0 if (plain, subscribed) == (5, 0) else 1)
PYTHON
dpkg-query -W -f 'RabbitMQ ${Version}\n' rabbitmq-server
venv/bin/python seen.py "$port"
