"""What was taken from the broker and is not yet acknowledged, and which acknowledgements may go out now.

One entry is one wake-up of the MQTT driver. It is complete when all its parcels are settled. Acknowledgements leave
in the order of receipt within a connection epoch (MQTT 5 section 4.6); entries of an old epoch are settled like
any other, but their packet ids mean nothing any more and are dropped (packet ids restart with the connection).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import attrs

from actors.messages import ParcelId


@attrs.define
class _Entry:
    number: int
    epoch: int
    packet_ids: tuple[int, ...]
    open_parts: dict[int, int]  # part -> fixes in it, not yet settled
    payload_bytes: int
    opened_at: float  # seconds, trio's clock


@attrs.define
class Ledger:
    """Owned by the supervisor, lent to the reader: it outlives a crash of the reader."""

    epoch: int = 0
    fixes_in_flight: int = 0
    bytes_in_flight: int = 0
    messages_unacked: int = 0  # QoS 1 messages of the present epoch
    _entries: dict[int, _Entry] = attrs.field(factory=dict)
    _order: deque[_Entry] = attrs.field(factory=deque)  # of the present epoch, in the order of receipt
    _next_number: int = 1

    def begin_epoch(self, epoch: int) -> None:
        """A new connection stands: what came over an older one will be settled, but never acknowledged."""
        self.epoch = epoch
        self._order.clear()
        self.messages_unacked = 0

    def next_number(self) -> int:
        """The number that the next `open` will use: parcels carry it before the entry is opened."""
        return self._next_number

    def open(
        self, epoch: int, packet_ids: tuple[int, ...], parts: Mapping[int, int], payload_bytes: int, now: float
    ) -> int:
        """Enter one batch of messages. `parts` maps part numbers to their fixes. Returns the entry's number."""
        entry = _Entry(self._next_number, epoch, packet_ids, dict(parts), payload_bytes, now)
        self._next_number += 1
        self.fixes_in_flight += sum(parts.values())
        if entry.open_parts:
            self._entries[entry.number] = entry
            self.bytes_in_flight += payload_bytes
        if epoch == self.epoch:
            self._order.append(entry)
            self.messages_unacked += len(packet_ids)
        return entry.number

    def settle(self, parcels: Iterable[ParcelId]) -> list[int]:
        """These parcels are durable. One that is unknown or settled already is a no-op.

        Returns the numbers of the entries that are complete now.
        """
        complete: list[int] = []
        for number, part in parcels:
            entry = self._entries.get(number)
            if entry is None:
                continue
            self.fixes_in_flight -= entry.open_parts.pop(part, 0)
            if not entry.open_parts:
                del self._entries[number]
                self.bytes_in_flight -= entry.payload_bytes
                complete.append(number)
        return complete

    def is_open(self, parcel: ParcelId) -> bool:
        """It was taken and is not durable yet."""
        number, part = parcel
        entry = self._entries.get(number)
        return entry is not None and part in entry.open_parts

    def take_acks(self) -> tuple[int, ...]:
        """Packet ids that may be acknowledged now, in order; each is handed out once."""
        due: list[int] = []
        while self._order and not self._order[0].open_parts:
            due.extend(self._order.popleft().packet_ids)
        self.messages_unacked -= len(due)
        return tuple(due)

    @property
    def idle(self) -> bool:
        """Nothing is waiting to be settled, and every acknowledgement was handed out."""
        return not self._entries and not self._order

    @property
    def oldest(self) -> int:
        """Number of the oldest entry of the present epoch whose messages are not all acknowledged; 0: there is none."""
        return self._order[0].number if self._order else 0

    def oldest_waited_s(self, now: float) -> float:
        """How long the oldest message of the present epoch that is not acknowledged waits; 0 when there is none."""
        return now - self._order[0].opened_at if self._order else 0.0
