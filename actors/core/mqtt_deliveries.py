"""QoS 1 messages of one connection, on their way to the reader, and their acknowledgements on the way back."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from actors.core.mqtt_split import Arrivals
from actors.messages import MessagesArrived

EVENT_MESSAGES = 1000
EVENT_BYTES = 512 * 1024
"""One MessagesArrived ends with the message that reaches one of them."""

PUBACK = b"\x40\x02"  # MQTT 5 section 3.4: without a reason code it is "success", as in 3.1.1


@attrs.define(eq=False)
class Deliveries:
    """Owned by the connection."""

    arrivals: Arrivals
    owed: int = 0  # packet id: the oldest that the connection before this one had not acknowledged; 0: none
    got_back: bool = False  # that one came again: nobody else had the session in between
    _unacked: dict[int, None] = attrs.field(factory=dict)  # packet ids taken and not acknowledged, oldest first

    @property
    def oldest(self) -> int:
        """Packet id of the oldest message that is not acknowledged; 0 when all are."""
        return next(iter(self._unacked), 0)

    def take(self, epoch: int) -> list[MessagesArrived]:
        """Everything that has arrived, cut to size."""
        arrivals, events = self.arrivals, []
        messages, packet_ids = arrivals.messages, arrivals.packet_ids
        arrivals.messages, arrivals.packet_ids = [], []
        if self.owed and not self.got_back:
            self.got_back = self.owed in packet_ids
        start = size = 0
        for end, (_, payload) in enumerate(messages, 1):
            size += len(payload)
            if size >= EVENT_BYTES or end - start == EVENT_MESSAGES or end == len(messages):
                fresh = tuple(self._fresh(packet_ids[start:end]))
                events.append(MessagesArrived(epoch, tuple(messages[start:end]), fresh, size))
                start, size = end, 0
        return events

    def pubacks(self, packet_ids: Iterable[int]) -> bytes:
        """The packets that acknowledge these, in this order; one that is not waiting for it is left out."""
        packets = []
        for packet_id in packet_ids:
            if packet_id in self._unacked:
                del self._unacked[packet_id]
                packets.append(PUBACK + packet_id.to_bytes(2, "big"))
        return b"".join(packets)

    def _fresh(self, packet_ids: list[int]) -> Iterable[int]:
        """A packet id 0 cannot be acknowledged. One that is still unacknowledged is a second copy: two PUBACKs for it
        could delete the message that gets the id next."""
        for packet_id in packet_ids:
            if packet_id and packet_id not in self._unacked:
                self._unacked[packet_id] = None
                yield packet_id
