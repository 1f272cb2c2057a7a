"""What was taken from the broker and is not yet acknowledged, and which acknowledgements may go out now.

One entry is one wake-up of the MQTT driver. It is complete when all its parcels are settled. Acknowledgements leave
in the order of receipt within a connection epoch (MQTT 5 section 4.6); entries of an old epoch are settled like
any other, but their packet ids mean nothing any more and are dropped (packet ids restart with the connection).

A broker sends again, after each reconnect, what was not acknowledged. What is still in an entry of an older connection
is not taken a second time: its new packet id waits for that entry. Otherwise each reconnect while PostgreSQL is away
would add all of it once more.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable

import attrs

from actors.core.parcel import ParcelId


@attrs.define
class _Entry:
    number: int
    epoch: int
    packet_ids: tuple[int, ...]
    open_parts: dict[int, int]  # part -> fixes in it, not yet settled
    payload_bytes: int
    opened_at: float  # seconds, trio's clock
    hashes: array[int]  # of its messages, 8 bytes each
    waits_for: frozenset[int]  # numbers of entries that hold what came again with this one


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
    _before: dict[int, int] = attrs.field(factory=dict)  # hash -> entry of an older connection that is not complete

    def begin_epoch(self, epoch: int) -> None:
        """A new connection stands: what came over an older one will be settled, but never acknowledged."""
        self.epoch = epoch
        self._order.clear()
        self.messages_unacked = 0
        self._before = {each: entry.number for entry in self._entries.values() for each in entry.hashes}

    def doubt(self) -> None:
        """What is in flight now may never be settled: take anew what comes again on the next connection."""
        for entry in self._entries.values():
            entry.hashes = array("q")
        self._before = {}

    def without_copies(
        self, messages: tuple[tuple[bytes, bytes], ...]
    ) -> tuple[tuple[tuple[bytes, bytes], ...], frozenset[int]]:
        """Leave out those that came over an older connection and are not durable yet: their entries beside it."""
        if not self._before:
            return messages, frozenset()
        held_by = [self._before.get(hash(message), 0) for message in messages]
        fresh = tuple(message for message, number in zip(messages, held_by, strict=True) if not number)
        return fresh, frozenset(filter(None, held_by))

    def next_number(self) -> int:
        """The number that the next `open` will use: parcels carry it before the entry is opened."""
        return self._next_number

    def open(
        self,
        epoch: int,
        packet_ids: tuple[int, ...],
        parts: dict[int, int],
        payload_bytes: int,
        now: float,
        messages: Iterable[tuple[bytes, bytes]] = (),
        waits_for: frozenset[int] = frozenset(),
    ) -> int:
        """Enter one batch of messages. `parts` maps part numbers to their fixes, and is the ledger's from now on.
        Returns the entry's number.

        `messages` and `waits_for` are what `without_copies` said.
        """
        hashes = array("q", map(hash, messages))
        entry = _Entry(self._next_number, epoch, packet_ids, parts, payload_bytes, now, hashes, waits_for)
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
        entry: _Entry | None = None
        for number, part in parcels:
            if entry is None or entry.number != number:  # parts of one follow each other
                entry = self._entries.get(number)
            if entry is None:
                continue
            self.fixes_in_flight -= entry.open_parts.pop(part, 0)
            if not entry.open_parts:
                del self._entries[number]
                self.bytes_in_flight -= entry.payload_bytes
                complete.append(number)
                for each in entry.hashes if self._before else ():
                    self._before.pop(each, None)
                entry = None
        return complete

    def settle_but(self, parcel: ParcelId, fixes: int) -> None:
        """All of this parcel but so many fixes is durable. Of one that is settled already a no-op."""
        number, part = parcel
        if self.is_open(parcel):
            parts = self._entries[number].open_parts
            self.fixes_in_flight -= parts[part] - fixes
            parts[part] = fixes

    def is_open(self, parcel: ParcelId) -> bool:
        """It was taken and is not durable yet."""
        number, part = parcel
        entry = self._entries.get(number)
        return entry is not None and part in entry.open_parts

    def take_acks(self) -> tuple[int, ...]:
        """Packet ids that may be acknowledged now, in order; each is handed out once."""
        due: list[int] = []
        while self._order and self._is_durable(self._order[0]):
            due.extend(self._order.popleft().packet_ids)
        self.messages_unacked -= len(due)
        return tuple(due)

    def _is_durable(self, entry: _Entry) -> bool:
        return not entry.open_parts and self._entries.keys().isdisjoint(entry.waits_for)

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
