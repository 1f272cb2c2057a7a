"""Why a connection to the broker ended, and what follows from it.

A broker that does not allow something may say so by ending the connection: at a SUBSCRIBE, or at a PUBLISH of ours
(RabbitMQ, NATS, aedes). It looks like another client that takes our session over, and like a broker that stops; what
was unanswered at that moment tells them apart, as far as that can be told.
"""

from __future__ import annotations

from enum import Enum, auto

import attrs

from actors.mqtt.version import Heard

UNSUPPORTED_VERSION = 0x84  # MQTT 5 section 3.2.2.2; paho makes it out of MQTT 3.1.1's 1
TAKEN_OVER = 0x8E  # MQTT 5 section 3.14.2.1, as those below
NOT_ABOUT_US = frozenset({0x00, 0x89, 0x8B, 0x8D, TAKEN_OVER, 0x96, 0x98, 0x9C, 0x9D, 0x9F, 0xA0})
"""Normal, busy, shutting down, keepalive, taken over, rates, administration, other servers, maximum time: reasons of
the broker's. Any other code of a DISCONNECT is about something that we have sent."""


class How(Enum):
    """What ended it."""

    OURS = auto()  # we did, for reasons of our own
    CLOSED = auto()  # the broker, between two packets
    LOST = auto()  # a reset, or the end inside a packet
    SAID = auto()  # the broker's DISCONNECT
    REFUSED = auto()  # a CONNACK that says no
    SILENT = auto()  # what had to come did not come in time
    GARBLED = auto()  # what came is not MQTT


@attrs.frozen
class Ending:
    """One connection's end."""

    how: How
    text: str  # what is known of it, for people
    code: int = 0  # of SAID and REFUSED
    accepted: bool = False  # CONNACK had said yes
    asked: tuple[str, ...] = ()  # filters of SUBSCRIBE without SUBACK
    refused: tuple[str, ...] = ()  # filters that SUBACK refused
    published: str = ""  # topic of our oldest PUBLISH without PUBACK; empty: none

    @property
    def reason(self) -> str:
        """For the log and for `status`."""
        at = self._at() if self._is_by_broker else ""
        if not at:
            return self.text
        return f"the broker closed the connection {at}" if self.how is How.CLOSED else f"{self.text}, {at}"

    @property
    def heard(self) -> Heard:
        """What it says about the version of MQTT."""
        if self.accepted:
            return Heard.ACCEPTED
        if self.how is How.OURS:
            return Heard.UNREACHED
        if self.how is not How.REFUSED:
            return Heard.NOTHING
        return Heard.NOT_THIS_VERSION if self.code == UNSUPPORTED_VERSION else Heard.ANOTHER_NO

    @property
    def names_rival(self) -> bool:
        """The broker said that another client has our session."""
        return self.how is How.SAID and self.code == TAKEN_OVER

    @property
    def could_be_rival(self) -> bool:
        """The broker closed without a word, and not at anything that we asked for."""
        return self.how is How.CLOSED and self.accepted and not (self.asked or self.refused or self.published)

    @property
    def blames_publish(self) -> bool:
        """It may have ended because of what we were publishing. A reset too: what the broker closes before it has read
        all that we sent is a reset to us."""
        return self._is_by_broker and bool(self.published)

    @property
    def unwanted(self) -> bool:
        """Come back later rather than at once."""
        return self.how is How.REFUSED or self.names_rival or (self._is_by_broker and bool(self.asked or self.refused))

    @property
    def _is_by_broker(self) -> bool:
        return self.how in (How.CLOSED, How.LOST) or (self.how is How.SAID and self.code not in NOT_ABOUT_US)

    def _at(self) -> str:
        if self.asked:
            return f"at our SUBSCRIBE to {', '.join(self.asked)}: not allowed?"
        if self.published:
            return f"at our PUBLISH to {self.published}: not allowed?"
        return f"after it refused our SUBSCRIBE to {', '.join(self.refused)}" if self.refused else ""
