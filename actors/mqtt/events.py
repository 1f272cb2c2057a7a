"""What the link to the broker tells the reader."""

from __future__ import annotations

from typing import TypeAlias

import attrs


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
    waited_s: float = 0.0  # at most so long they were there before they were read


@attrs.frozen
class CopiesDropped:
    """Driver to reader: so many messages came again on a connection on which they are not acknowledged yet."""

    count: int


@attrs.frozen
class BrokerDropped:
    """Driver to reader: so many messages, of all its clients, the broker says it has thrown away since its start."""

    total: int


@attrs.frozen
class Unsubscribed:
    """Driver to reader: as asked for, for this time, the session has no subscription any more."""

    number: int


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
class CannotShare:
    """Driver to reader: the broker takes shared subscriptions and does not deliver; the driver does not connect."""

    reason: str


@attrs.frozen
class GaveWay:
    """Stand-by to reader: there is no connection, because it is not this node's turn."""


BrokerEvent: TypeAlias = (
    Connected
    | Subscribed
    | Disconnected
    | MessagesArrived
    | CopiesDropped
    | BrokerDropped
    | SubscriptionRefused
    | Unsubscribed
    | ReceiptsDropped
    | TakenOver
    | CannotShare
    | GaveWay
)
