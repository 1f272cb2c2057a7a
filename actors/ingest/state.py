"""What the reader works at: lent to it by the supervisor, so that a crash loses nothing of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TypeAlias

import attrs

from actors.core.fix import Fix
from actors.core.parcel import Parcel, ParcelId
from actors.core.quarantine import Quarantine
from actors.core.rejection import Rejection
from actors.ingest.ledger import Ledger
from actors.mqtt.drop_counts import BrokerDrops
from actors.mqtt.events import MessagesArrived

Shown: TypeAlias = Mapping[str, Sequence[Parcel]]
"""The parcels with fixes of one entry of the ledger, by race."""


@attrs.define(eq=False)
class ReaderState:
    """What outlives a crash of the reader. Owned by the supervisor."""

    ledger: Ledger = attrs.field(factory=Ledger)
    quarantine: Quarantine[MessagesArrived, bytes] = attrs.field(factory=Quarantine)  # while decoding; parts: digests
    had_session: bool = False
    broker_drops: BrokerDrops = attrs.field(factory=BrokerDrops)
    _shown: dict[int, Shown] = attrs.field(factory=dict)  # by ledger entry, until all of it is settled

    def took(self, entry: int, shown: Shown) -> None:
        """They are on their way to the stores."""
        self._shown[entry] = shown

    def settled(self, parcels: Iterable[ParcelId], but: Iterable[tuple[ParcelId, int]] = ()) -> None:
        """They are durable, and others `but` for so many fixes. One that is unknown is a no-op."""
        for parcel, fixes in but:
            self.ledger.settle_but(parcel, fixes)
        for entry in self.ledger.settle(parcels):
            self._shown.pop(entry, None)

    def fixes_in_flight(self, race_id: str) -> Iterator[Fix]:
        """What the race has been shown perhaps, and no store may know yet. Thousands of races may ask at once."""
        for shown in self._shown.values():
            for parcel in shown.get(race_id, ()):
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
) -> tuple[Shown, list[Parcel]]:
    """Those of ledger entry `number` for races, and those that hold rejections, of at most `size` each."""
    by_race: dict[str, list[Fix]] = {}
    for fix in fixes:
        group = by_race.get(fix.race_id)
        if group is None:
            by_race[fix.race_id] = [fix]
        else:
            group.append(fix)
    part = count()
    # With thousands of races nearly every fix is a parcel.
    shown: dict[str, tuple[Parcel, ...]] = {}
    for race_id, group in by_race.items():
        if len(group) <= size:
            shown[race_id] = (Parcel((number, next(part)), race_id, tuple(group), (), since),)
        else:
            starts = range(0, len(group), size)
            pieces = [tuple(group[start : start + size]) for start in starts]
            shown[race_id] = tuple(Parcel((number, next(part)), race_id, piece, (), since) for piece in pieces)
    return shown, [
        Parcel((number, next(part)), "", (), tuple(rejections[i : i + size]), since)
        for i in range(0, len(rejections), size)
    ]
