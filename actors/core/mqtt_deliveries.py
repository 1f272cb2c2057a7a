"""Messages of one connection, on their way to the reader, and their acknowledgements on the way back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from operator import itemgetter

import attrs

from actors.core.mqtt_split import AT_QOS_2, MAX_PACKET_ID, Arrivals
from actors.messages import CopiesDropped, MessagesArrived

EVENT_MESSAGES = 1000
EVENT_BYTES = 512 * 1024
"""One MessagesArrived ends with the message that reaches one of them."""

PUBACK = b"\x40\x02"  # MQTT 5 sections 3.4 and 3.5: without a reason code it is "success", as in 3.1.1
PUBREC = b"\x50\x02"

PAYLOAD = itemgetter(1)  # of a message


@attrs.define(eq=False)
class Deliveries:
    """Owned by the connection.

    A message is known again by Python's hash of its topic and payload: 64 bits, with a key of this process, and most
    of its price is paid once for all.
    """

    arrivals: Arrivals
    owed: int = 0  # packet id: the oldest that the connection before this one had not acknowledged; 0: none
    got_back: bool = False  # that one came again: nobody else had the session in between
    _unacked: dict[int, int] = attrs.field(factory=dict)  # packet id -> hash of its message; oldest first
    _more: dict[int, list[int]] = attrs.field(factory=dict)  # packet id -> hashes of further messages that have it

    @property
    def oldest(self) -> int:
        """Packet id of the oldest message that is not acknowledged; 0 when all are."""
        return next(iter(self._unacked), 0)

    def take(self, epoch: int) -> list[CopiesDropped | MessagesArrived]:
        """Everything that has arrived, cut to size."""
        arrivals = self.arrivals
        messages, packet_ids = arrivals.messages, arrivals.packet_ids
        events: list[CopiesDropped | MessagesArrived] = []
        if not messages:
            return events
        arrivals.messages, arrivals.packet_ids = [], []
        copies = self._enter(messages, packet_ids)
        if copies:
            events.append(CopiesDropped(len(copies)))
            for at in reversed(copies):
                del messages[at], packet_ids[at]
        if self.owed and not self.got_back:
            self.got_back = self.owed in self._unacked
        sizes = list(accumulate(map(len, map(PAYLOAD, messages))))
        start = before = 0
        while start < len(messages):
            end = min(start + EVENT_MESSAGES, bisect_left(sizes, before + EVENT_BYTES, start) + 1, len(messages))
            to_acknowledge = tuple(filter(None, packet_ids[start:end]))
            events.append(MessagesArrived(epoch, tuple(messages[start:end]), to_acknowledge, sizes[end - 1] - before))
            start, before = end, sizes[end - 1]
        return events

    def pubacks(self, packet_ids: Iterable[int]) -> bytes:
        """The packets that acknowledge these, in this order: PUBACK, or PUBREC at QoS 2.

        One that is not waiting for it is left out, and so is one that another message has as well, until that is
        durable too: the broker would forget either of them, or both.
        """
        unacked, more = self._unacked, self._more
        packets = []
        for packet_id in packet_ids:
            kind = PUBACK
            if packet_id > MAX_PACKET_ID:
                kind = PUBREC
                packet_id -= AT_QOS_2
            if packet_id in more:
                unacked[packet_id] = more[packet_id].pop(0)
                if not more[packet_id]:
                    del more[packet_id]
            elif packet_id in unacked:
                del unacked[packet_id]
                packets.append(kind + packet_id.to_bytes(2, "big"))
        return b"".join(packets)

    def _enter(self, messages: list[tuple[bytes, bytes]], packet_ids: list[int]) -> list[int]:
        """Note which are to be acknowledged. Returns the positions of those that are here already: some brokers send
        a message again every 30 s until it is acknowledged."""
        unacked = self._unacked
        fresh = dict(zip(packet_ids, map(hash, messages), strict=True))
        if (
            len(fresh) == len(packet_ids)
            and max(fresh) <= MAX_PACKET_ID
            and 0 not in fresh
            and unacked.keys().isdisjoint(fresh)
        ):
            unacked.update(fresh)
            return []
        copies = []
        for at, packet_id in enumerate(packet_ids):
            on_the_wire = packet_id & MAX_PACKET_ID
            digest = hash(messages[at])
            if not on_the_wire:
                continue
            if on_the_wire not in unacked:
                unacked[on_the_wire] = digest
            elif unacked[on_the_wire] == digest or digest in self._more.get(on_the_wire, ()):
                copies.append(at)
            else:
                self._more.setdefault(on_the_wire, []).append(digest)
        return copies
