"""Which MQTT to speak: 5, and 3.1.1 where the broker does not have it. Both ends of the product ask here.

A connection that ends before CONNACK, or gets none, is how many brokers say that they do not know MQTT 5, and also how
one looks that starts, has too much to do, or stands behind a proxy that lets everybody in while it is away. So it
settles nothing: 3.1.1 is asked, and when that is answered MQTT 5 once more, now that the broker is known to be there.
Nobody who has MQTT 5 is left on 3.1.1 because of a bad moment. What was settled holds until it is not answered any
more, which is when a broker may have been upgraded; it is not remembered beyond the process.
"""

from __future__ import annotations

import math
from enum import Enum, auto

import attrs

SHORTEST_S = 3.0


class Heard(Enum):
    """What one attempt to connect came to."""

    ACCEPTED = auto()
    ANOTHER_NO = auto()  # a CONNACK that refuses for another reason: so the version is known
    NOT_THIS_VERSION = auto()  # CONNACK 1 of MQTT 3.1.1, 0x84 of MQTT 5
    NOTHING = auto()  # it ended before CONNACK, or none came
    UNREACHED = auto()  # no connection, so nothing about versions


class Step(Enum):
    """Where the question stands."""

    FIVE = auto()
    ASK_OLD = auto()  # does it answer to 3.1.1?
    FIVE_AGAIN = auto()  # it does
    OLD = auto()


_NEXT = {
    (Step.FIVE, Heard.NOTHING): Step.ASK_OLD,
    (Step.FIVE, Heard.NOT_THIS_VERSION): Step.OLD,
    (Step.ASK_OLD, Heard.ACCEPTED): Step.FIVE_AGAIN,
    (Step.ASK_OLD, Heard.ANOTHER_NO): Step.FIVE_AGAIN,
    (Step.FIVE_AGAIN, Heard.NOTHING): Step.OLD,
    (Step.FIVE_AGAIN, Heard.NOT_THIS_VERSION): Step.OLD,
    (Step.OLD, Heard.ACCEPTED): Step.OLD,
    (Step.OLD, Heard.ANOTHER_NO): Step.OLD,
    (Step.OLD, Heard.UNREACHED): Step.OLD,
}
"""Everything else leads back to FIVE."""


@attrs.define
class Version:
    """Of one broker, or of one cluster: all nodes hold the same sessions."""

    wanted: str  # [mqtt] protocol: auto, 5 or 3.1.1
    _step: Step = Step.FIVE
    _answer_s: float = 0.0  # how long the last question took

    @property
    def speaks(self) -> str:
        """`5` or `3.1.1`: for the next connection."""
        if self.wanted != "auto":
            return self.wanted
        return "5" if self._step in (Step.FIVE, Step.FIVE_AGAIN) else "3.1.1"

    @property
    def is_question(self) -> bool:
        """The next connection is to learn something: when it is accepted, end it and come again."""
        return self.wanted == "auto" and self._step is Step.ASK_OLD

    @property
    def fell_back(self) -> bool:
        """The broker has no MQTT 5, as far as we know."""
        return self.wanted == "auto" and self._step is Step.OLD

    @property
    def patience_s(self) -> float:
        """The most that CONNACK should be waited for: not long where silence only leads to the next question, unless
        this broker is slow. amqtt does not answer MQTT 5 at all."""
        if self.wanted == "auto" and self.speaks == "5":
            return max(SHORTEST_S, 3 * self._answer_s)
        return math.inf

    def heard(self, what: Heard, after_s: float = 0.0) -> bool:
        """How that connection began, or did not, and after how many seconds. True: the next one is about the same
        question; make it at once, to the same broker."""
        before = self._step
        if self.is_question:
            self._answer_s = after_s
        self._step = _NEXT.get((before, what), Step.FIVE)
        return self.wanted == "auto" and self._step not in (before, Step.FIVE)

    def hint(self, what: Heard) -> str:
        """To be put behind the reason why there is no connection; empty when another version would not help."""
        if self.wanted == "auto" or what not in (Heard.NOTHING, Heard.NOT_THIS_VERSION):
            return ""
        return f"; try [mqtt] protocol = auto or {'3.1.1' if self.wanted == '5' else '5'}"
