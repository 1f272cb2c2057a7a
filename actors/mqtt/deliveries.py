"""Messages of one connection, on their way to the reader, and their acknowledgements on the way back."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import TypeAlias

import attrs

from actors.mqtt import drop_counts
from actors.mqtt.events import BrokerDropped, CopiesDropped, MessagesArrived
from actors.mqtt.splitter import AT_QOS_2, MAX_PACKET_ID, Arrivals

EVENT_MESSAGES = 1000
EVENT_BYTES = 512 * 1024
"""One MessagesArrived ends with the message that reaches one of them."""

PUBACK = b"\x40\x02"  # MQTT 5 sections 3.4 and 3.5: without a reason code it is "success", as in 3.1.1
PUBREC = b"\x50\x02"
PUBACK_WORD = 0x40020000  # with its packet id

PAYLOAD = itemgetter(1)  # of a message
DROPS_TOPIC = drop_counts.TOPIC.encode()


Message: TypeAlias = tuple[int, int]
"""Its packet id, and its hash: packet ids are used again, by some brokers at once."""

NOTHING: Message = (0, 0)

Owed: TypeAlias = tuple[int, Message]
"""By a connection that has ended: the packet id of the oldest message without acknowledgement, 0 when there is none,
and the message that it acknowledged last: the broker may not have heard of it."""


@attrs.define(eq=False)
class Deliveries:
    """Owned by the connection.

    A message is known again by Python's hash of its topic and payload: 64 bits, with a key of this process, and most
    of its price is paid once for all.
    """

    arrivals: Arrivals
    owed: Owed = (0, NOTHING)  # by the connection before this one
    got_back: bool = False  # some of that came again: nobody else had the session in between
    acknowledged: Message = NOTHING  # the last one
    _unacked: dict[int, int] = attrs.field(factory=dict)  # packet id -> hash of its message; oldest first
    _more: dict[int, list[int]] = attrs.field(factory=dict)  # packet id -> hashes of further messages that have it

    @property
    def oldest(self) -> int:
        """Packet id of the oldest message that is not acknowledged; 0 when all are."""
        return next(iter(self._unacked), 0)

    def take(self, epoch: int, waited_s: float = 0.0) -> list[BrokerDropped | CopiesDropped | MessagesArrived]:
        """Everything that has arrived, cut to size."""
        arrivals = self.arrivals
        messages, packet_ids = arrivals.messages, arrivals.packet_ids
        if not messages:
            return []
        arrivals.messages, arrivals.packet_ids = [], []
        events: list[BrokerDropped | CopiesDropped | MessagesArrived] = list(self._enter(messages, packet_ids))
        if not self.got_back:
            oldest, (packet_id, digest) = self.owed
            again = packet_id > 0 and self._unacked.get(packet_id) == digest
            self.got_back = again or (oldest > 0 and oldest in self._unacked)
        sizes = list(accumulate(map(len, map(PAYLOAD, messages))))
        start = before = 0
        while start < len(messages):
            end = min(start + EVENT_MESSAGES, bisect_left(sizes, before + EVENT_BYTES, start) + 1, len(messages))
            to_acknowledge = tuple(filter(None, packet_ids[start:end]))
            size = sizes[end - 1] - before
            events.append(MessagesArrived(epoch, tuple(messages[start:end]), to_acknowledge, size, waited_s))
            start, before = end, sizes[end - 1]
        return events

    def pubacks(self, packet_ids: Sequence[int]) -> bytes:
        """The packets that acknowledge these, in this order: PUBACK, or PUBREC at QoS 2.

        One that is not waiting for it is left out, and so is one that another message has as well, until that is
        durable too: the broker would forget either of them, or both.
        """
        unacked, more = self._unacked, self._more
        if packet_ids:
            self.acknowledged = packet_ids[-1], unacked.get(packet_ids[-1], 0)
        if not more and max(packet_ids, default=0) <= MAX_PACKET_ID:  # the usual: a third of the time
            gone = unacked.pop
            words = array("I", [PUBACK_WORD | each for each in packet_ids if gone(each, None) is not None])
            if sys.byteorder == "little":
                words.byteswap()
            return words.tobytes()
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

    def _enter(
        self, messages: list[tuple[bytes, bytes]], packet_ids: list[int]
    ) -> Iterator[BrokerDropped | CopiesDropped]:
        """Note which are to be acknowledged, and remove what is no message for the reader.

        That is, beside the broker's own count, what is here already: some brokers send a message again every 30 s until
        it is acknowledged.
        """
        unacked = self._unacked
        fresh = dict(zip(packet_ids, map(hash, messages), strict=True))
        if (
            len(fresh) == len(packet_ids)
            and max(fresh) <= MAX_PACKET_ID
            and 0 not in fresh
            and unacked.keys().isdisjoint(fresh)
        ):
            unacked.update(fresh)
            return
        copies = list(self._copies(messages, packet_ids))
        said = [at for at, message in enumerate(messages) if message[0] == DROPS_TOPIC and not packet_ids[at]]
        for at in said:
            total = drop_counts.total_in(messages[at][1])
            if total is not None:
                yield BrokerDropped(total)
        if copies:
            yield CopiesDropped(len(copies))
        for at in sorted(copies + said, reverse=True):
            del messages[at], packet_ids[at]

    def _copies(self, messages: list[tuple[bytes, bytes]], packet_ids: list[int]) -> Iterator[int]:
        """Positions of those that are here already; the others are noted."""
        unacked = self._unacked
        for at, packet_id in enumerate(packet_ids):
            on_the_wire = packet_id & MAX_PACKET_ID
            digest = hash(messages[at])
            if on_the_wire and on_the_wire not in unacked:
                unacked[on_the_wire] = digest
            elif on_the_wire and digest in (unacked[on_the_wire], *self._more.get(on_the_wire, ())):
                yield at
            elif on_the_wire:
                self._more.setdefault(on_the_wire, []).append(digest)
