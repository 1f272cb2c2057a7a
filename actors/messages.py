"""Every message that crosses a mailbox. One union per mailbox; docstrings say who sends, who receives.

Frozen attrs, but for the two of which one is made for each race that a wake-up brings: a msgspec Struct takes 0.1 µs
instead of 0.5 or more.

No hot mailbox can be full: the reader stops reading the broker's socket at `[postgres] queue_rows` fixes or 64 MiB
in flight, so what all mailboxes together hold is bounded there, at the source, and sending never blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import attrs
import msgspec

if TYPE_CHECKING:
    from actors.core.fix import Fix, Rejection
    from actors.core.outbox import Outbox

# --- to the reader, from the MQTT driver -----------------------------------------------------------------------


@attrs.frozen
class Connected:
    """Driver to reader: a connection stands and its subscriptions were sent; messages of its session may come."""

    epoch: int  # counts connections of this process from 1; packet ids mean something only within one
    session_present: bool
    session_lost: bool = False  # it was there on an earlier connection, of this run of the daemon or of one before


@attrs.frozen
class Subscribed:
    """Driver to reader: the broker granted subscriptions."""

    complete: bool  # all that we want; else the others were refused, and are asked for again


@attrs.frozen
class Disconnected:
    """Driver to reader: the connection of this epoch is gone; the driver goes on trying."""

    epoch: int
    reason: str


@attrs.frozen
class MessagesArrived:
    """Driver to reader: everything one wake-up of the driver took from the socket, in the order of receipt."""

    epoch: int
    messages: tuple[tuple[bytes, bytes], ...]  # (topic, payload)
    packet_ids: tuple[int, ...]  # to acknowledge, in the order of receipt; at QoS 2: + AT_QOS_2
    payload_bytes: int


@attrs.frozen
class CopiesDropped:
    """Driver to reader: so many messages came again on a connection on which they are not acknowledged yet."""

    count: int


@attrs.frozen
class BrokerDropped:
    """Driver to reader: so many messages, of all its clients, the broker says it has thrown away since its start."""

    total: int


@attrs.frozen
class SubscriptionRefused:
    """Driver to reader: SUBACK said no to this topic filter; it is asked for again, and again every few seconds."""

    topic: str
    reason: str


@attrs.frozen
class ReceiptsDropped:
    """Driver to reader: receipts that nobody gets."""

    count: int
    topic: str  # of one of them
    reason: str


@attrs.frozen
class TakenOver:
    """Driver to reader: another client with our client_id threw us out again and again; the driver tries no more."""

    client_id: str
    times: int
    within_s: float  # of each CONNACK


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


@attrs.frozen
class Tell:
    """Persistence to reader, after a commit and before its Settled: publish these receipts (topic, payload)."""

    receipts: tuple[tuple[str, bytes], ...]


@attrs.frozen
class StopTaking:
    """Supervisor to reader, first phase of a stop: read no more, stay connected, finish when all is settled."""


BrokerEvent: TypeAlias = (
    Connected
    | Subscribed
    | Disconnected
    | MessagesArrived
    | CopiesDropped
    | BrokerDropped
    | SubscriptionRefused
    | ReceiptsDropped
    | TakenOver
)
ReaderMessage: TypeAlias = BrokerEvent | Settled | Tell | StopTaking

# --- parcels ---------------------------------------------------------------------------------------------------

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


# --- to a race -------------------------------------------------------------------------------------------------


class FixesArrived(msgspec.Struct, frozen=True, gc=False):
    """Reader (by way of the directory) to race."""

    parcel: Parcel
    taken_at: float  # seconds, trio's clock
    stored: bool = False  # True: persistence has it already, because the race was down when it came


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


RaceMessage: TypeAlias = FixesArrived | PositionsFound | Subscribe | Unsubscribe

# --- to persistence --------------------------------------------------------------------------------------------


PersistenceMessage: TypeAlias = tuple[Parcel, ...]
"""What came about in one turn of the reader or of a race."""
