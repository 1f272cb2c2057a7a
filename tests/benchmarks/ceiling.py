"""What paho alone takes: its own loop on a stock socket, each message acknowledged at once and forgotten.

A process of its own. Prints `ready` when subscribed; after so many messages one JSON object: Unix time of the last
one, and the CPU time since the first.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

RECEIVE_MAXIMUM = 10_000  # as the daemon's
VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


def main() -> None:
    """Take, acknowledge, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--protocol", choices=VERSIONS, default="5")
    args = parser.parse_args()
    client = Client(CallbackAPIVersion.VERSION2, client_id="ceiling", protocol=VERSIONS[args.protocol], manual_ack=True)
    taken = 0
    began_cpu_s = ended = 0.0

    def on_message(_client: Client, _userdata: Any, message: MQTTMessage) -> None:
        nonlocal taken, began_cpu_s, ended
        if not taken:
            began_cpu_s = time.process_time()
        client.ack(message.mid, message.qos)
        taken += 1
        if taken == args.count:
            ended = time.time()
            client.disconnect()

    def on_connect(*_args: object) -> None:
        client.subscribe("tracking/+/position", qos=1)

    def on_subscribe(*_args: object) -> None:
        print("ready", flush=True)

    client.on_message, client.on_connect, client.on_subscribe = on_message, on_connect, on_subscribe
    properties = None
    if args.protocol == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
    client.connect("127.0.0.1", args.port, properties=properties)
    client.loop_forever()
    print(json.dumps({"ended": ended, "cpu_s": time.process_time() - began_cpu_s}))


if __name__ == "__main__":
    main()
