"""The question to mosquitto how many messages it throws away; used by the driver's thread only.

A subscription at QoS 0, beside the ones that we need. Some brokers refuse it, and some end the connection over it: so
it goes out alone, when everything else has been granted for a while, and once it has cost a connection never again.
"""

from __future__ import annotations

import attrs
import structlog
from paho.mqtt.reasoncodes import ReasonCode

from actors.mqtt.drop_counts import TOPIC
from actors.mqtt.paho import PahoClient

log = structlog.get_logger("mqtt")

ASK_AFTER_S = 6.0
"""After the last SUBACK: by then an end of the connection can no longer be taken for another client's doing."""


@attrs.define(eq=False)
class DropsQuestion:
    """One for each run of the link; it outlives connections."""

    _asked: bool = False  # on this connection
    _unanswered: int = 0  # packet id of SUBSCRIBE without SUBACK; 0: none
    _never: bool = False

    def connected(self) -> None:
        """A new connection stands."""
        if self._unanswered:
            log.info("the connection ended when we asked what the broker drops: not asked any more", topic=TOPIC)
            self._never = True
        self._asked, self._unanswered = False, 0

    def ask(self, client: PahoClient) -> None:
        """Once a connection, and not where it may do harm."""
        if not self._asked and not self._never:
            self._asked = True
            self._unanswered = client.subscribe(TOPIC, 0)[1] or 0

    def answered(self, packet_id: int, reasons: list[ReasonCode]) -> bool:
        """Whether this SUBACK is ours."""
        if not packet_id or packet_id != self._unanswered:
            return False
        self._unanswered = 0
        if any(reason.is_failure for reason in reasons):
            log.debug("the broker does not say what it drops", topic=TOPIC)
            self._never = True
        return True
