"""Asking a broker whether it shares until it has answered, before the link that would rely on it; on the link's thread.

Before, because a subscription that only looks like a shared one must not replace one that works.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable

import attrs
import structlog
import trio

from actors.core.addresses import BrokerAddress
from actors.mqtt.attempts import Attempts
from actors.mqtt.dialling import dial_node, why_not
from actors.mqtt.end import Ending, How
from actors.mqtt.events import BrokerEvent, CannotShare, Disconnected
from actors.mqtt.orders import Orders, Stopped
from actors.mqtt.probe import ask_whether_it_shares, probe_client_id
from actors.mqtt.sharing import Answer, Sharing, allow, refusal
from actors.mqtt.version import Heard, Version
from actors.mqtt.visit import CONNACK_S, TURN_S, Visit
from actors.settings.load import MqttSettings

log = structlog.get_logger("mqtt")

RETRY_S = (0.5, 4.0)
"""First and longest wait before the next attempt."""

CUT_TIMES = 3
"""Connections in a row that the broker ended at our probe: it means it."""


@attrs.define(eq=False)
class Probing:
    """`run` is for the link's thread, before its first connection. Nothing is kept between two runs."""

    settings: MqttSettings
    address: BrokerAddress
    tls: ssl.SSLContext | None
    group: str  # [cluster] shared_group
    proven: bool  # this node has a shared session already
    orders: Orders
    token: trio.lowlevel.TrioToken
    post: Callable[[BrokerEvent], None]
    version: Version
    attempts: Attempts
    _cut: int = 0  # times in a row

    def run(self) -> bool:
        """Whether to go on; else that is told. Raises Cancelled, or Stopped when the link is to end."""
        while True:
            answer = self._ask()
            if answer is not None:
                break
        told = refusal(answer, proven=self.proven)
        if told:
            self._post(CannotShare(told))
        elif answer.sharing is Sharing.SHARES:
            log.info("the broker delivers what is shared", group=self.group)
        else:
            log.warning(f"the broker {answer.text}: it did share when this node began", group=self.group)
        return not told

    def wait_for_the_end(self) -> None:
        """Nothing is left to do but that. Raises Cancelled."""
        while not self.orders.finishing:
            self.orders.bell.wait(TURN_S)

    def _ask(self) -> Answer | None:
        """One connection; None: try again. Waits before that."""
        node = self.attempts.node
        try:
            sock = dial_node(node, self.tls if node.tls else None, self._wait)
        except (OSError, trio.TooSlowError) as error:
            self.version.heard(Heard.UNREACHED)
            self._failed(why_not(error))
            return None
        settings = attrs.evolve(
            self.settings, client_id=probe_client_id(self.settings.client_id), protocol=self.version.speaks
        )
        login = (self.address.username, self.address.password)
        visit = Visit(sock, node, settings, login, self._wait)
        began = time.monotonic()
        try:
            answer = self._answer(visit)
        finally:
            ending = visit.end()
        if not isinstance(answer, Answer):
            ending = answer or ending
            if not self.version.heard(ending.heard, time.monotonic() - began):
                self._failed(ending.reason + self.version.hint(ending.heard))
            return self._meant(ending)
        self.version.heard(Heard.ACCEPTED)
        return answer

    def _answer(self, visit: Visit) -> Answer | Ending | None:
        """None: the visit was about the version of MQTT, or it is over."""
        if not visit.begin(min(CONNACK_S, self.version.patience_s)):
            return visit.ended
        if self.version.is_question:
            return Ending(How.OURS, f"the broker answers to MQTT {self.version.speaks}", accepted=True)
        return ask_whether_it_shares(visit, self.group)

    def _meant(self, ending: Ending) -> Answer | None:
        """What it means that the broker ends connections at our probe."""
        self._cut = self._cut + 1 if ending.accepted and (ending.asked or ending.published) else 0
        if self._cut < CUT_TIMES:
            return None
        return Answer(Sharing.UNTOLD, f"{ending.reason.removeprefix('the broker ')}; {allow(f'{self.group}-probe/#')}")

    def _failed(self, reason: str) -> None:
        """Tell the reader, unless it knows already, and wait."""
        news = self.attempts.news(reason)
        if news:
            self._post(Disconnected(0, news))
        again = time.monotonic() + self.attempts.failed(*RETRY_S, random.random())
        while (left_s := again - time.monotonic()) > 0:
            self._wait(left_s)

    def _post(self, event: BrokerEvent) -> None:
        self.token.run_sync_soon(self.post, event)

    def _wait(self, timeout_s: float, fd: int = -1, events: int = 0) -> int:
        """Raises Cancelled or Stopped."""
        ready = self.orders.bell.wait(timeout_s, fd, events)
        if self.orders.finishing:
            raise Stopped
        return ready
