"""Having the broker forget our session, for good: a connection with a clean session takes its place and ends."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import trio

from actors.core.addresses import Address, Secret
from actors.mqtt.dialling import dial_node, why_not
from actors.mqtt.socket import Wait
from actors.mqtt.visit import Visit
from actors.settings.load import MqttSettings


def end_session(
    settings: MqttSettings, nodes: Sequence[Address], login: tuple[str, Secret], tls: ssl.SSLContext | None, wait: Wait
) -> str:
    """Why the session of `client_id` is still there; empty when it is gone, with whatever it held.

    `settings.protocol` is 5 or 3.1.1. The first node that answers decides: all have the sessions in common. On a thread
    of the driver; takes some seconds a node at most. Raises what `wait` raises.
    """
    reason = ""
    for node in nodes:
        try:
            sock = dial_node(node, tls if node.tls else None, wait)
        except (OSError, trio.TooSlowError) as error:
            reason = why_not(error)
            continue
        visit = Visit(sock, node, settings, login, wait)
        try:
            if visit.begin():  # CONNACK: the old session is gone (MQTT 5 section 3.1.2.4, MQTT 3.1.1 section 3.1.2.4)
                return ""
        finally:
            ending = visit.end()
        reason = ending.reason
    return reason
