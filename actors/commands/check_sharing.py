"""Whether a broker delivers what is shared, asked once for `check`; says what it found and never raises.

Plain blocking calls: nothing else runs in this process.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import attrs

from actors.commands.check_servers import Finding
from actors.core.addresses import Address
from actors.mqtt.end import Ending
from actors.mqtt.probe import ask_whether_it_shares
from actors.mqtt.sharing import Answer, Sharing, refusal
from actors.mqtt.socket import dial, tls_context
from actors.mqtt.version import Version
from actors.mqtt.visit import Visit
from actors.settings.load import MqttSettings


def sharing(settings: MqttSettings, nodes: tuple[Address, ...], group: str, *, proven: bool) -> Iterator[Finding]:
    """By the first node that answers; nothing when none does, which others say. `proven`: as of `refusal`."""
    for node in nodes:
        try:
            answer = _ask(settings, node, group)
        except OSError:
            continue
        if isinstance(answer, Answer):
            yield _finding(answer, proven=proven)
            return
        if answer.accepted:
            yield Finding("FAILED", "broker", f"{answer.reason}: cannot be asked whether it shares")
            return


def _finding(answer: Answer, *, proven: bool) -> Finding:
    told = refusal(answer, proven=proven)
    if told:
        return Finding("FAILED", "broker", told.removeprefix("the broker "))
    if answer.sharing is Sharing.SHARES:
        return Finding("ok", "broker", "delivers what is shared, as [cluster] ingest = shared needs it")
    return Finding("warning", "broker", f"{answer.text}; it did share when this node began")


def _ask(settings: MqttSettings, node: Address, group: str) -> Answer | Ending:
    """Raises OSError."""
    version = Version(settings.protocol)
    while True:
        answer = _visit(settings, node, version.speaks, "" if version.is_question else group)
        if isinstance(answer, Answer) or not version.heard(answer.heard):
            return answer


def _visit(settings: MqttSettings, node: Address, spoken: str, group: str) -> Answer | Ending:
    """Without a group only whether it answers. Raises OSError."""
    found = socket.getaddrinfo(node.host, node.port, type=socket.SOCK_STREAM)
    addresses = [(family, address) for family, _type, _proto, _name, address in found]
    sock = dial(addresses, node.host, tls_context(settings) if node.tls else None, _wait)
    named = attrs.evolve(settings, client_id=f"{settings.client_id}-check-{os.getpid()}", protocol=spoken)
    visit = Visit(sock, node, named, (settings.username, settings.password), _wait)
    try:
        if visit.begin() and group:
            return ask_whether_it_shares(visit, group)
    finally:
        ending = visit.end()
    return ending


def _wait(timeout_s: float, fd: int, events: int) -> int:
    poll = select.poll()
    poll.register(fd, events)
    return next((happened for _, happened in poll.poll(max(0.0, timeout_s) * 1000)), 0)
