"""What the reader works at: lent to it by the supervisor, so that a crash loses nothing of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import attrs

from actors.core.fix import Fix
from actors.core.parcel import Parcel, ParcelId
from actors.core.quarantine import Quarantine
from actors.core.rejection import Rejection
from actors.ingest.leaving import Leaving
from actors.ingest.ledger import Ledger
from actors.mqtt.drop_counts import BrokerDrops
from actors.mqtt.events import MessagesArrived


@attrs.define(eq=False)
class ReaderState:
    """What outlives a crash of the reader. Owned by the supervisor."""

    ledger: Ledger = attrs.field(factory=Ledger)
    quarantine: Quarantine[MessagesArrived, bytes] = attrs.field(factory=Quarantine)  # while decoding; parts: digests
    had_session: bool = False
    broker_drops: BrokerDrops = attrs.field(factory=BrokerDrops)
    leaving: Leaving | None = None
    _shown: dict[int, Sequence[Parcel]] = attrs.field(factory=dict)  # by ledger entry, until all of it is settled
    _by_race: dict[int, dict[str, list[Parcel]]] = attrs.field(factory=dict)  # the same, of entries asked for

    def took(self, entry: int, shown: Sequence[Parcel]) -> None:
        """They are on their way to the stores."""
        self._shown[entry] = shown

    def settled(self, parcels: Iterable[ParcelId], but: Iterable[tuple[ParcelId, int]] = ()) -> None:
        """They are durable, and others `but` for so many fixes. One that is unknown is a no-op."""
        for parcel, fixes in but:
            self.ledger.settle_but(parcel, fixes)
        for entry in self.ledger.settle(parcels):
            self._shown.pop(entry, None)
            self._by_race.pop(entry, None)

    def fixes_in_flight(self, race_id: str) -> Iterator[Fix]:
        """What the race has been shown perhaps, and no store may know yet. Thousands of races may ask at once."""
        for entry, shown in self._shown.items():
            by_race = self._by_race.get(entry)
            if by_race is None:
                by_race = self._by_race[entry] = {}
                for parcel in shown:
                    by_race.setdefault(parcel.race_id, []).append(parcel)
            for parcel in by_race.get(race_id, ()):
                if self.ledger.is_open(parcel.id):
                    yield from parcel.fixes

    def excused(self) -> bool:
        """A payload is to blame, or may be: finding the one that is must not spend the restart budget."""
        decoding = self.quarantine
        return decoding.suspect is not None or (decoding.held is not None and not decoding.tried)

    def after_crash(self) -> None:
        """Remember which message was at fault, and that some may have got lost, before the reader runs again."""
        self.ledger.doubt()
        self.quarantine.after_crash()


def parcels(
    number: int, size: int, fixes: list[Fix], rejections: list[Rejection], since: float = math.inf
) -> tuple[list[Parcel], list[Parcel]]:
    """Those of ledger entry `number` for races, and those that hold rejections, of at most `size` each."""
    by_race: dict[str, list[Fix]] = {}
    for fix in fixes:
        group = by_race.get(fix.race_id)
        if group is None:
            by_race[fix.race_id] = [fix]
        else:
            group.append(fix)
    # With thousands of races nearly every fix is a parcel.
    shown: list[Parcel] = []
    for race_id, group in by_race.items():
        if len(group) <= size:
            shown.append(Parcel((number, len(shown)), race_id, tuple(group), (), since))
        else:
            for i in range(0, len(group), size):
                shown.append(Parcel((number, len(shown)), race_id, tuple(group[i : i + size]), (), since))
    part = count(len(shown))
    return shown, [
        Parcel((number, next(part)), "", (), tuple(rejections[i : i + size]), since)
        for i in range(0, len(rejections), size)
    ]
