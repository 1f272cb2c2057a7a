"""The subscriptions of one connection, and which topic filters the broker's session may hold from earlier ones.

A subscription that was taken out of the settings lives on in the session, and its messages keep coming, until it is
unsubscribed; only we know that it was there. Used by the driver's thread only.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import attrs
import msgspec
import structlog
from paho.mqtt.reasoncodes import ReasonCode

from actors.drivers.mqtt_drops import ASK_AFTER_S, DropsQuestion
from actors.drivers.mqtt_paho import PahoClient
from actors.messages import SubscriptionRefused

log = structlog.get_logger("mqtt")

FILE_NAME = "mqtt_topics.json"


@attrs.frozen
class RememberedTopics:
    """The file `mqtt_topics.json`: {client_id: [filter, ...]}. Losing it costs an unsubscription, no fix."""

    data_dir: Path
    client_id: str

    def read(self) -> frozenset[str]:
        """The filters that the session may hold; empty when nothing is known."""
        return frozenset(self._read_all().get(self.client_id, ()))

    def write(self, topics: frozenset[str]) -> None:
        """Replace them, whole or not at all. A folder that cannot be written to is logged, no more."""
        known = self._read_all()
        if frozenset(known.get(self.client_id, ())) == topics:
            return
        known[self.client_id] = sorted(topics)
        path = self.data_dir / FILE_NAME
        new = path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(known))
            os.replace(new, path)
        except OSError as error:
            log.warning("cannot remember the subscriptions", path=str(path), error=str(error))

    def _read_all(self) -> dict[str, list[str]]:
        path = self.data_dir / FILE_NAME
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            log.warning("cannot read which subscriptions we had", path=str(path), error=str(error))
            return {}


@attrs.define(eq=False)
class Subscriptions:
    """What we want, asked for at each connect; never unsubscribed on the way out."""

    topics: tuple[str, ...]
    qos: int
    remembered: RememberedTopics
    drops: DropsQuestion = attrs.field(factory=DropsQuestion)
    _asked: dict[int, tuple[str, ...]] = attrs.field(factory=dict)  # SUBSCRIBE without SUBACK: packet id -> filters
    _unsubscribing: int = 0  # packet id of UNSUBSCRIBE without UNSUBACK
    _granted_at: float = math.inf  # the last SUBACK: seconds, monotonic

    @property
    def had_session(self) -> bool:
        """A connection before this one, perhaps of an earlier run, had a session at the broker."""
        return bool(self.remembered.read())

    def ask(self, client: PahoClient, *, session_present: bool) -> None:
        """Subscribe to what is wanted; unsubscribe what a session has from before."""
        self.drops.connected()
        wanted = frozenset(self.topics)
        had = self.remembered.read() if session_present else frozenset()
        self.remembered.write(had | wanted)  # before: what the session may hold must never be forgotten
        if had - wanted:
            log.info("unsubscribing what was removed from the settings", topics=sorted(had - wanted))
            self._unsubscribing = client.unsubscribe(sorted(had - wanted))[1] or 0
        self._subscribe(client, self.topics)

    def ask_more(self, client: PahoClient, now: float) -> None:
        """When all that we need is granted for a while: what we only want."""
        if not self._asked and now >= self._granted_at + ASK_AFTER_S:
            self.drops.ask(client)

    def granted(self, packet_id: int, reasons: list[ReasonCode], now: float) -> list[SubscriptionRefused]:
        """SUBACK has come, with a reason code a topic. Raises ValueError when it answers nothing that was asked."""
        if self.drops.answered(packet_id, reasons):
            return []
        topics = self._asked.pop(packet_id, ())
        if not topics or len(reasons) != len(topics):
            raise ValueError(f"SUBACK with {len(reasons)} codes for {len(topics)} topics")
        refused = []
        for topic, reason in zip(topics, reasons, strict=True):
            if reason.is_failure:
                refused.append(SubscriptionRefused(topic, str(reason)))
            elif reason.value < self.qos:
                log.error("the broker grants less than asked: no promise", topic=topic, granted=str(reason))
        if not refused:
            self._granted_at = now
        self._remember()
        return refused

    def unsubscribed(self, packet_id: int) -> None:
        """UNSUBACK has come."""
        if packet_id == self._unsubscribing:
            self._unsubscribing = 0
            self._remember()

    def _subscribe(self, client: PahoClient, topics: tuple[str, ...]) -> None:
        _, packet_id = client.subscribe([(topic, self.qos) for topic in topics])
        assert packet_id is not None  # the socket is open: CONNACK has just come through it
        self._asked[packet_id] = topics

    def _remember(self) -> None:
        """When all is answered: what the session holds is known."""
        if not self._asked and not self._unsubscribing:
            self.remembered.write(frozenset(self.topics))
