#!/bin/sh
# mosquitto 2.0.11, `persistence true`: a restart keeps the sessions of clients and what waits in them, but not their
# shared subscriptions. The broker says "session present" to a client that comes back, and deals it nothing until it
# subscribes again. What is published meanwhile gets its PUBACK and is gone (over MQTT 5: "No matching subscribers").
#
# Most expect that a shared subscription is part of the session like any other (MQTT 5, 4.1.0: "the Client's
# subscriptions"), as a plain one is here; and that where a member's session ends with messages waiting in it, these go
# to another member ("SHOULD", 4.8.2). They are gone as well.
#
# Needs mosquitto (Debian's package) and Python 3.9 or newer. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check paho-mqtt==2.1.0
mosquitto -h | head -n 1
cat >seen.py <<'PYTHON'
import os
import signal
import socket
import subprocess
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
with open("mosquitto.conf", "w") as conf:
    conf.write(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {os.getcwd()}/\n")
    conf.write("user root\n" if os.geteuid() == 0 else "")


def start():
    server = subprocess.Popen(["mosquitto", "-c", "mosquitto.conf"], stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server
        except OSError:
            time.sleep(0.05)
    raise SystemExit("mosquitto does not start")


class Client:
    def __init__(self, name, *filters, clean=False):
        self.got, self.answered, self.codes, self.present = [], 0, set(), None
        made = self.made = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)
        made.on_connect = lambda _c, _d, flags, _r, _p: setattr(self, "present", flags.session_present)
        made.on_subscribe = lambda *_: setattr(self, "answered", self.answered + 1)
        made.on_message = lambda _c, _d, message: self.got.append(message.payload.decode())
        made.on_publish = lambda _c, _d, _m, reason, _p: (self.codes.add(str(reason)), setattr(self, "answered", self.answered + 1))
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if clean else 3600
        made.connect("127.0.0.1", port, clean_start=clean, properties=properties)
        self.turn(lambda: self.present is not None)
        for each in filters:
            made.subscribe(each, 1)
        self.turn(lambda: self.answered == len(filters))

    def turn(self, done=lambda: False, seconds=1.0):
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            self.made.loop(0.05)

    def publish(self, topic, *payloads):
        self.answered, self.codes = 0, set()
        for each in payloads:
            self.made.publish(topic, each, 1)
        self.turn(lambda: self.answered == len(payloads), 5.0)
        return ", ".join(sorted(self.codes))

    def end(self):
        self.made.disconnect()
        self.turn(seconds=0.2)


server = start()
Client("node", "plain/+", "$share/group/shared/+").end()
tracker = Client("tracker", clean=True)
tracker.publish("plain/1", "p1")
tracker.publish("shared/1", "s1")
tracker.end()
server.send_signal(signal.SIGTERM)
server.wait()
server = start()
tracker = Client("tracker", clean=True)
print("after a restart, published to the plain filter:", tracker.publish("plain/1", "p2"))
print("after a restart, published to the shared filter:", said := tracker.publish("shared/1", "s2"))
node = Client("node")
node.turn(seconds=2)
print(f"session present: {node.present}; expected: p1, p2, s1, s2; seen:", ", ".join(sorted(node.got)))
first = (node.present, sorted(node.got), said)
node.end()

members = [Client(name, "$share/others/two/+") for name in ("one", "two")]
members[1].end()
tracker.publish("two/1", *"abcd")
members[0].turn()
before = len(members[0].got)
Client("two", clean=True).end()  # its session ends, with what waits there
members[0].turn()
print(f"one of two members away: the other one got {before} of 4; the session of the first ended: {len(members[0].got)} of 4")
server.kill()
server.wait()
sys.exit(0 if (*first, before, len(members[0].got)) == (True, ["p1", "p2", "s1"], "No matching subscribers", 2, 2) else 1)
PYTHON
venv/bin/python seen.py
