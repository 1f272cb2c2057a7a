"""What a race is told. One FixesArrived is made for each race that a wake-up brings: a msgspec Struct takes 0.1 µs,
a frozen attrs class 0.5."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs
import msgspec

from actors.core.parcel import Parcel

if TYPE_CHECKING:
    from actors.core.fix import Fix
    from actors.dashboards.frames import Frame
    from actors.dashboards.outbox import Outbox


class FixesArrived(msgspec.Struct, frozen=True, gc=False):
    """Reader (by way of the directory) to race."""

    parcel: Parcel
    taken_at: float  # seconds, trio's clock: its fixes came since then
    stored: bool = False  # True: persistence has it already, because the race was down when it came


class ShownElsewhere(msgspec.Struct, frozen=True, gc=False):
    """Relay (by way of the directory) to race: another node has shown this to its dashboards."""

    fixes: tuple[Fix, ...]
    stale: tuple[bool, ...]  # of each, at that moment, by the clock of that node
    frame: Frame


@attrs.frozen
class Doubted:
    """Relay (by way of the directory) to race: something that other nodes showed may be missing."""


@attrs.frozen
class PositionsFound:
    """A race's restorer to the race itself: newest positions from PostgreSQL or Redis; only greater ones count."""

    fixes: tuple[Fix, ...]


@attrs.frozen
class Subscribe:
    """Subscriber (by way of the directory) to race: answer with a snapshot, then every later change."""

    outbox: Outbox
    request_id: str | int | None
    resync: bool = False


@attrs.frozen
class Unsubscribe:
    """Subscriber to race: the outbox has already forgotten the race; send it nothing more."""

    outbox: Outbox


RaceMessage: TypeAlias = FixesArrived | ShownElsewhere | Doubted | PositionsFound | Subscribe | Unsubscribe
