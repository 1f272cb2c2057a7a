"""Parcels: what is settled as a whole, and word that it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import attrs
import msgspec

if TYPE_CHECKING:
    from actors.core.fix import Fix
    from actors.core.rejection import Rejection


ParcelId: TypeAlias = tuple[int, int]
"""(ledger entry, part of it)"""


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """What is settled as a whole: fixes of one race in one ledger entry (at most about `batch_rows`), or rejections.

    A race that finds a poison fix moves it from `fixes` to `rejections`, so that the sum of both never changes.
    """

    id: ParcelId
    race_id: str  # empty for rejections that never got as far as a race
    fixes: tuple[Fix, ...]
    rejections: tuple[Rejection, ...] = ()
    since: float = math.inf  # seconds, trio's clock: it has waited since then at most; infinite: only now


PersistenceMessage: TypeAlias = tuple[Parcel, ...]
"""What came about in one turn of the reader or of a race."""


@attrs.frozen
class Tally:
    """What became of rows, in fixes: the terms of the conservation law (README, "Guarantees, and their limits")."""

    committed: int = 0
    duplicate: int = 0
    rejected: Mapping[str, int] = attrs.field(factory=dict)  # code -> rejections
    spooled: int = 0


@attrs.frozen
class Settled:
    """Persistence to reader: these parcels are durable (or durably rejected), and some but for a few fixes.

    The tally is counted by the reader, in the same step that takes the parcels out of flight: at no moment does a
    fix count twice or not at all.
    """

    parcels: tuple[ParcelId, ...]
    tally: Tally = Tally()
    but: tuple[tuple[ParcelId, int], ...] = ()  # so many fixes of the parcel wait for a partition
