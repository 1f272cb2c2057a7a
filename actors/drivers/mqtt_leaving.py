"""Leaving subscriptions that the broker's session has from before; used by the driver's thread only.

A broker may end the connection at UNSUBSCRIBE, as at SUBSCRIBE: RabbitMQ does when the topic that is left is not
allowed any more. What we want now must not wait for that, so after ENDS such ends the old ones stay.
"""

from __future__ import annotations

import attrs
import structlog

from actors.drivers.mqtt_paho import PahoClient

log = structlog.get_logger("mqtt")

ENDS = 2


@attrs.define(eq=False)
class Leaving:
    """One for each run of the link; it outlives connections."""

    topics: tuple[str, ...] = ()  # filters of UNSUBSCRIBE without UNSUBACK
    _packet_id: int = 0  # of that UNSUBSCRIBE
    _ends: int = 0  # connections that ended before UNSUBACK, in a row

    def connected(self) -> None:
        """A new connection stands."""
        if self.topics:
            self._ends += 1
            if self._ends == ENDS:
                log.warning("the connection ends when we leave old topics: they stay", topics=list(self.topics))
        self.topics = ()

    def leave(self, client: PahoClient, topics: frozenset[str]) -> frozenset[str]:
        """Unsubscribe these, unless that does harm. Returns those that stay."""
        if self._ends >= ENDS or not topics:
            return topics
        log.info("unsubscribing what was removed from the settings", topics=sorted(topics))
        self.topics = tuple(sorted(topics))
        self._packet_id = client.unsubscribe(list(self.topics))[1] or 0
        return frozenset()

    def answered(self, packet_id: int) -> None:
        """UNSUBACK has come."""
        if packet_id == self._packet_id:
            self.topics, self._ends = (), 0
