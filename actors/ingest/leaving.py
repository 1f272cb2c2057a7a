"""How a node gives back what it has at the broker: unsubscribe, take what its session still holds, end that.

In this order, because a broker may throw away what waits in a session that ends (mosquitto 2.0.11, though others share
the subscription), and goes on dealing to one that is only away. Where a node has its topics for itself it first waits
until little comes: NATS throws away at UNSUBSCRIBE what it has not sent.

Nothing in MQTT says that a session is empty. It is when nothing has come for QUIET_S, all is acknowledged, and nothing
comes between one more UNSUBSCRIBE and its answer either: a broker that was busy has answered that.
"""

from __future__ import annotations

from enum import Enum, auto

import attrs

QUIET_S = 2.0
CATCH_UP_S = 10.0
"""The longest wait for a first silence, where one is waited for."""


class Move(Enum):
    """What is to be done."""

    WAIT = auto()
    UNSUBSCRIBE = auto()
    END = auto()


@attrs.define(eq=False)
class Leaving:
    """From the moment it is asked for. Times are trio's."""

    since: float
    catches_up: bool  # before it unsubscribes
    messages: int = 0  # taken since then
    asked: int = 0  # UNSUBSCRIBEs
    answered: int = 0  # the latest that UNSUBACK came for
    left: bool = False  # the session is gone
    why_not: str = ""
    _quiet_since: float = 0.0
    _at_last_ask: int = 0  # messages

    def __attrs_post_init__(self) -> None:
        self._quiet_since = self.since

    def took(self, messages: int, now: float) -> None:
        """So many messages came."""
        self.messages += messages
        self._quiet_since = now

    def unsubscribed(self, number: int, now: float) -> None:
        """UNSUBACK came, for the UNSUBSCRIBE of this number or all before it."""
        self.answered = number
        self._quiet_since = now

    def disconnected(self) -> None:
        """What UNSUBACK said may be asked for again: messages that were on their way come anew."""
        self.answered = 0

    def begin_again(self) -> None:
        """The reader and its connection are new ones."""
        self.asked = self.answered = 0

    def next(self, now: float, *, subscribed: bool, idle: bool) -> Move:
        """`subscribed`: the broker has granted what we want, on this connection. `idle`: all that came is acknowledged.

        Whoever is told UNSUBSCRIBE does so; it is not said again before that is answered.
        """
        quiet = now - self._quiet_since >= QUIET_S
        if not self.asked:
            caught_up = not self.catches_up or (subscribed and (quiet or now - self.since >= CATCH_UP_S))
            return self._ask() if caught_up else Move.WAIT
        if self.answered < self.asked or not idle or not quiet:
            return Move.WAIT
        return Move.END if self.asked > 1 and self.messages == self._at_last_ask else self._ask()

    def _ask(self) -> Move:
        self.asked += 1
        self._at_last_ask = self.messages
        return Move.UNSUBSCRIBE
