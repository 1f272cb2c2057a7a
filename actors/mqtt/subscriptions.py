"""The subscriptions of one connection, and which topic filters the broker's session may hold from earlier ones.

A subscription that was taken out of the settings lives on in the session, and its messages keep coming, until it is
unsubscribed; only we know that it was there. Used by the driver's thread only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import attrs
import msgspec
import structlog
from paho.mqtt.reasoncodes import ReasonCode

from actors.core.share import shared_filter
from actors.data_dir import write_private
from actors.mqtt.drops import ASK_AFTER_S, DropsQuestion
from actors.mqtt.events import Subscribed, SubscriptionRefused, Unsubscribed
from actors.mqtt.paho import PahoClient

log = structlog.get_logger("mqtt")

FILE_NAME = "mqtt_topics.json"

ASK_AGAIN_S = 5.0
"""Between two requests for a subscription that the broker refuses."""


class Asked(msgspec.Struct):
    """Filters that a session may hold, though SUBACK never came."""

    asked: list[str]


class TopicMemory(Protocol):
    """Which filters the session may hold. Asked and told by the driver's thread; never raises."""

    def read(self) -> frozenset[str]: ...
    def granted(self) -> bool: ...
    def write(self, topics: frozenset[str], *, granted: bool) -> None: ...


@attrs.frozen
class RememberedTopics:
    """The file `mqtt_topics.json`: {client_id: [filter, ...]}, or {client_id: {"asked": [filter, ...]}} as long as the
    broker never granted one of them. Losing it costs an unsubscription, no fix."""

    data_dir: Path
    client_id: str

    def read(self) -> frozenset[str]:
        """The filters that the session may hold; empty when nothing is known."""
        found = self._read_all().get(self.client_id, [])
        return frozenset(found.asked if isinstance(found, Asked) else found)

    def granted(self) -> bool:
        """The session holds some for certain, or did."""
        return isinstance(self._read_all().get(self.client_id), list)

    def write(self, topics: frozenset[str], *, granted: bool) -> None:
        """Replace them, whole or not at all. A folder that cannot be written to is logged, no more."""
        known = self._read_all()
        entry = sorted(topics) if granted else Asked(sorted(topics))
        if known.get(self.client_id) == entry:
            return
        known[self.client_id] = entry
        path = self.data_dir / FILE_NAME
        try:
            write_private(path, msgspec.json.encode(known).decode())
        except OSError as error:
            log.warning("cannot remember the subscriptions", path=str(path), error=str(error))

    def _read_all(self) -> dict[str, list[str] | Asked]:
        path = self.data_dir / FILE_NAME
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, list[str] | Asked])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            log.warning("cannot read which subscriptions we had", path=str(path), error=str(error))
            return {}


def has_shared(memory: TopicMemory, group: str, topics: tuple[str, ...]) -> bool:
    """The session holds, or did, all of these topics as filters that are shared in the group."""
    return memory.granted() and memory.read() >= {shared_filter(group, topic) for topic in topics}


@attrs.define(eq=False)
class Subscriptions:
    """What we want, asked for at each connect; never unsubscribed on the way out."""

    topics: tuple[str, ...]  # as the broker is to have them: of nodes that share, in their $share form
    qos: int
    remembered: TopicMemory
    drops: DropsQuestion = attrs.field(factory=DropsQuestion)
    _asked: dict[int, tuple[str, ...]] = attrs.field(factory=dict)  # SUBSCRIBE without SUBACK: packet id -> filters
    _unsubscribing: int = 0  # packet id of UNSUBSCRIBE without UNSUBACK
    _refused: dict[str, str] = attrs.field(factory=dict)  # filter -> reason
    _granted: bool = False  # some, on this connection or one before with the same session
    _answered_at: float = 0.0  # the last SUBACK: seconds, monotonic
    leaving: int = 0  # as Orders has it
    _leave_asked: int = 0  # of these, asked on this connection
    _left: int = 0  # and answered

    @property
    def had_session(self) -> bool:
        """A connection before this one, perhaps of an earlier run, had a session with subscriptions at the broker."""
        return self.remembered.granted()

    @property
    def asked(self) -> tuple[str, ...]:
        """Filters that the broker has not answered for."""
        return tuple(topic for topics in self._asked.values() for topic in topics)

    @property
    def refused(self) -> tuple[str, ...]:
        """Filters that it refused the last time."""
        return tuple(self._refused)

    def ask(self, client: PahoClient, *, session_present: bool) -> None:
        """Subscribe to what is wanted; unsubscribe what a session has from before."""
        self.drops.connected()
        wanted = frozenset(self.topics)
        had = self.remembered.read() if session_present else frozenset()
        self._granted = session_present and self.remembered.granted()
        # Before: what the session may hold must never be forgotten.
        self.remembered.write(had | wanted, granted=self._granted)
        self._subscribe(client, self.topics)
        if had - wanted:
            # After: the same topics in their other form, shared or plain, are never without a subscription.
            log.info("unsubscribing what was removed from the settings", topics=sorted(had - wanted))
            self._unsubscribing = client.unsubscribe(sorted(had - wanted))[1] or 0

    def ask_more(self, client: PahoClient, now: float) -> None:
        """When it is time: for what was refused; when all is granted for a while, for what we only want."""
        if self._asked or self._unsubscribing:
            return
        if self.leaving:
            # Subscribed to before, because RabbitMQ 3.10 unsubscribes only what this connection has subscribed to.
            if self.leaving > self._left:
                self._unsubscribing = client.unsubscribe(sorted(self.remembered.read() | set(self.topics)))[1] or 0
                self._leave_asked = self.leaving
            return
        if self._refused and now >= self._answered_at + ASK_AGAIN_S:
            self._subscribe(client, self.refused)
        elif not self._refused and now >= self._answered_at + ASK_AFTER_S:
            self.drops.ask(client)

    def answered(self, packet_id: int, reasons: list[ReasonCode], now: float) -> list[Subscribed | SubscriptionRefused]:
        """SUBACK has come, with a reason code a topic: what is new. Raises ValueError when that was not asked."""
        if self.drops.answered(packet_id, reasons):
            return []
        topics = self._asked.pop(packet_id, ())
        if not topics or len(reasons) != len(topics):
            raise ValueError(f"SUBACK with {len(reasons)} codes for {len(topics)} topics")
        before = dict(self._refused)
        for topic, reason in zip(topics, reasons, strict=True):
            if reason.is_failure:
                self._refused[topic] = str(reason)
                continue
            if self._refused.pop(topic, None) is not None:
                log.info("the broker grants what it refused", topic=topic)
            self._granted = True
            if reason.value < self.qos:
                log.error("the broker grants less than asked: no promise", topic=topic, granted=str(reason))
        self._answered_at = now
        self._remember()
        news: list[Subscribed | SubscriptionRefused] = []
        if not all(reason.is_failure for reason in reasons):
            news.append(Subscribed(complete=not self._refused))
        if self._refused != before:
            news += [SubscriptionRefused(topic, reason) for topic, reason in self._refused.items()]
        return news

    def unsubscribed(self, packet_id: int) -> list[Unsubscribed]:
        """UNSUBACK has come: what is new."""
        if packet_id != self._unsubscribing:
            return []
        self._unsubscribing = 0
        if self._leave_asked > self._left:
            self._left = self._leave_asked
            return [Unsubscribed(self._left)]
        self._remember()
        return []

    def _subscribe(self, client: PahoClient, topics: tuple[str, ...]) -> None:
        _, packet_id = client.subscribe([(topic, self.qos) for topic in topics])
        assert packet_id is not None  # the socket is open: CONNACK has just come through it
        self._asked[packet_id] = topics

    def _remember(self) -> None:
        """When all is answered: what the session holds is known."""
        if not self._asked and not self._unsubscribing:
            self.remembered.write(frozenset(self.topics), granted=self._granted)
