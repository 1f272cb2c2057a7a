"""What we publish (receipts, at QoS 1): how much at once, and what is given up so that ingest does not hang on it.

A broker may answer a PUBLISH that it does not allow by ending the connection. What was in flight at such an end is
sent again alone, one after the other: so the one that it ends at is found, and given up when it was in flight at CLOSES
ends in a row. Its topic is not used again for HUSH_S, and after IN_A_ROW topics given up without an acknowledgement
between them none is: a connection that ends at each receipt would leave no time for fixes.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

import attrs

WINDOW = 20
"""Messages of ours without PUBACK; mosquitto takes this many, a broker that takes fewer says so in CONNACK."""

CLOSES = 2
IN_A_ROW = 3
HUSH_S = 600.0
MAX_TOPICS = 1000
"""Topics known not to be allowed; beyond it the one known longest is tried again."""


@attrs.frozen
class Message:
    """One to be published."""

    topic: str
    payload: bytes
    ends: int = 0  # ends of a connection that it was in flight at, in a row


@attrs.frozen
class Dropped:
    """Messages that nobody gets."""

    count: int
    topic: str  # of one of them
    reason: str


@attrs.define(eq=False)
class Outgoing:
    """Owned by the driver's thread, over all connections. Times are seconds of one monotonic clock."""

    waiting: deque[tuple[str, bytes]]  # (topic, payload); somebody else appends
    window: int = WINDOW
    _again: deque[Message] = attrs.field(factory=deque)  # was in flight when a connection ended; goes first
    _in_flight: dict[int, Message] = attrs.field(factory=dict)  # by packet id
    _given_up: int = 0  # topics, since something was acknowledged
    _hushed: dict[str, float] = attrs.field(factory=dict)  # topic -> until
    _all_hushed_until: float = 0.0
    _dropped: int = 0
    _last: tuple[str, str] = ("", "")  # topic and reason of the last one dropped

    def next(self, now: float, *, subscribed: bool = True) -> Message | None:
        """To be published now, and then told to `sent`; None: nothing, or not yet. What is suspected waits until all
        of SUBSCRIBE is answered, so that an end before that is not counted against it."""
        while (self._again or self.waiting) and len(self._in_flight) < self._window():
            if self._is_careful and not subscribed:
                break
            message = self._again.popleft() if self._again else Message(*self.waiting.popleft())
            left_s = max(self._all_hushed_until, self._hushed.get(message.topic, 0.0)) - now
            if left_s <= 0:
                return message
            self.drop(message.topic, f"not sent: the broker ended connections at it; tried again in {left_s:.0f} s")
        return None

    def sent(self, packet_id: int, message: Message) -> None:
        """It is on its way."""
        self._in_flight[packet_id] = message

    def acknowledged(self, packet_id: int, refusal: str = "") -> None:
        """PUBACK has come, perhaps one that says no. Raises KeyError when nothing is in flight under this id."""
        message = self._in_flight.pop(packet_id)
        self._given_up = 0
        if refusal:
            self.drop(message.topic, f"the broker refused it: {refusal}")

    def ended(self, *, blamed: bool, now: float) -> None:
        """The connection is over, and what was in flight may be why: it goes first on the next one."""
        in_flight = list(self._in_flight.values())
        self._in_flight.clear()
        if blamed:
            in_flight = [attrs.evolve(message, ends=message.ends + 1) for message in in_flight]
        if len(in_flight) == 1 and in_flight[0].ends >= CLOSES:
            self._give_up(in_flight.pop().topic, now)
        self._again.extendleft(reversed(in_flight))

    def drop(self, topic: str, reason: str) -> None:
        """Count one that nobody gets."""
        self._dropped += 1
        self._last = topic, reason

    def take_dropped(self) -> Dropped | None:
        """What was dropped since the last call."""
        if not self._dropped:
            return None
        dropped = Dropped(self._dropped, *self._last)
        self._dropped = 0
        return dropped

    @property
    def oldest_topic(self) -> str:
        """Of what is in flight; empty when nothing is."""
        return next((message.topic for message in self._in_flight.values()), "")

    def _window(self) -> int:
        return 1 if self._is_careful else self.window

    @property
    def _is_careful(self) -> bool:
        suspects = (message.ends for message in (*self._in_flight.values(), *islice(self._again, 1)))
        return self._given_up > 0 or any(suspects)

    def _give_up(self, topic: str, now: float) -> None:
        self.drop(topic, f"the broker ended {CLOSES} connections in a row at it")
        self._given_up += 1
        if self._given_up >= IN_A_ROW:
            self._all_hushed_until = now + HUSH_S
        self._hushed.pop(topic, None)
        if len(self._hushed) >= MAX_TOPICS:
            del self._hushed[next(iter(self._hushed))]
        self._hushed[topic] = now + HUSH_S
