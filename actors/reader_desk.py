"""What the reader works at: lent to it by the supervisor, so that a crash loses nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from actors.core.fix import Fix
from actors.core.ledger import Ledger
from actors.messages import MessagesArrived, Parcel, ParcelId


@attrs.define(eq=False)
class ReaderDesk:
    """What outlives a crash of the reader. Owned by the supervisor."""

    ledger: Ledger = attrs.field(factory=Ledger)
    held: MessagesArrived | None = None  # being decoded
    suspect: bytes | None = None  # digest of the message that is being tried alone
    tried: bool = False  # `held` crashed the reader before
    poisoned: set[bytes] = attrs.field(factory=set)  # digests of messages that crash the reader
    had_session: bool = False
    _race_of: dict[ParcelId, str] = attrs.field(factory=dict)  # parcels with fixes, until they are settled
    _in_flight: dict[str, dict[ParcelId, Parcel]] = attrs.field(factory=dict)  # the same, by race: thousands may ask

    def took(self, parcel: Parcel) -> None:
        """It is on its way to the stores."""
        self._race_of[parcel.id] = parcel.race_id
        self._in_flight.setdefault(parcel.race_id, {})[parcel.id] = parcel

    def settled(self, parcel_id: ParcelId) -> None:
        """It is durable. One that is unknown is a no-op."""
        race_id = self._race_of.pop(parcel_id, None)
        if race_id is None:
            return
        parcels = self._in_flight[race_id]
        del parcels[parcel_id]
        if not parcels:
            del self._in_flight[race_id]

    def fixes_in_flight(self, race_id: str) -> Iterator[Fix]:
        """What the race has been shown perhaps, and no store may know yet."""
        for parcel in self._in_flight.get(race_id, {}).values():
            yield from parcel.fixes

    def excused(self) -> bool:
        """A payload is to blame, or may be: finding the one that is must not spend the restart budget."""
        return self.suspect is not None or (self.held is not None and not self.tried)

    def after_crash(self) -> None:
        """Remember which message was at fault, before the reader runs again."""
        self.tried = self.held is not None
        if self.suspect is not None:
            self.poisoned.add(self.suspect)
            self.suspect = None
