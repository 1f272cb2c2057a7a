"""What the reader knows of the broker: whether it can be used, whether it keeps our session, whether it has gone quiet.

The broker is up when it has granted all subscriptions. A part of the reader: it shares its clock and its mailbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, assert_never

import attrs
import structlog

from actors.ingest.silence import Silence
from actors.ingest.state import ReaderState
from actors.mqtt.events import (
    BrokerDropped,
    CannotShare,
    Connected,
    Disconnected,
    GaveWay,
    ReceiptsDropped,
    Subscribed,
    SubscriptionRefused,
    TakenOver,
    Unsubscribed,
)
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from actors.telemetry.once import OncePerSecond

log = structlog.get_logger("reader")

QUIET_S = 300.0
"""Trackers of a race that goes on are not all silent for so long."""

News: TypeAlias = (
    Connected
    | Subscribed
    | Disconnected
    | SubscriptionRefused
    | Unsubscribed
    | ReceiptsDropped
    | BrokerDropped
    | TakenOver
    | CannotShare
    | GaveWay
)


@attrs.define(eq=False)
class BrokerState:
    """Times are trio's."""

    state: ReaderState
    metrics: Metrics
    health: Health
    give_up: Callable[[], None]  # have the daemon drained and ended with 1
    _subscribed: bool = False  # to all that we want, on this connection
    _holding: bool = False  # we do not read
    _silence: Silence = attrs.field(factory=lambda: Silence(QUIET_S))
    _seldom: OncePerSecond = attrs.field(factory=OncePerSecond)

    def begin(self) -> None:
        """The reader runs, perhaps again: without a connection, and it reads."""
        self._subscribed = self._holding = False
        self._silence.is_ours()

    def handle(self, news: News, now: float) -> None:
        """Do one message of the driver."""
        match news:
            case Connected(epoch=epoch, session_present=present, session_lost=lost):
                self.state.ledger.begin_epoch(epoch)
                if lost or (self.state.had_session and not present):  # data_dir may not be writable
                    self.metrics.session_lost.inc()
                    log.error("the broker forgot our session: messages it held for us are lost")
                self.state.had_session = self.state.had_session and present
                if self._holding:  # SUBACK is not read
                    self.health.up("broker")
            case Subscribed(complete=complete):
                self.state.had_session = True
                self._subscribed = complete
                if complete:
                    self.health.up("broker")
                    self._silence.may_end(now)
            case Unsubscribed(number=number):
                assert self.state.leaving is not None  # who asked for it
                self.state.leaving.unsubscribed(number, now)
                self.health.down("broker", "leaving: the broker deals nothing new to this node")
                self._silence.is_ours()
            case Disconnected(reason=reason):
                self.health.down("broker", reason)
                self._subscribed = False
                if self.state.leaving is not None:
                    self.state.leaving.disconnected()
                self._silence.is_ours()
            case GaveWay():
                self.health.up("broker", "not this node's turn")
                self.state.had_session = False  # the next one may be another node's, and lost while that had it
                self._subscribed = False
                self._silence.is_ours()
            case SubscriptionRefused(topic=topic, reason=reason):
                log.error("the broker refused a subscription", topic=topic, reason=reason)
                self.health.down("broker", f"subscription {topic} refused: {reason}")
            case ReceiptsDropped(count=count, topic=topic, reason=reason):
                self.metrics.receipts_dropped.inc(count)
                if self._seldom.allows(ReceiptsDropped, now):
                    not_logged = self._seldom.take_suppressed(ReceiptsDropped)
                    log.warning(
                        "receipts dropped", count=count, topic=topic[:200], reason=reason, not_logged_since=not_logged
                    )
            case BrokerDropped(total=total):
                self._broker_dropped(total, now)
            case TakenOver(client_id=client_id, times=times, within_s=within_s):
                reason = f"another client seems to use our client_id {client_id!r}"
                log.error(f"{reason}: thrown out {times} times in a row within {within_s:g} s of CONNACK, stopping")
                self.health.down("broker", reason)
                self.give_up()
            case CannotShare(reason=reason):
                log.error(reason)
                self.health.down("broker", reason)
                self.give_up()
            case _:
                assert_never(news)

    def _broker_dropped(self, total: int, now: float) -> None:
        drops = self.state.broker_drops
        self.metrics.broker_dropped.inc(drops.more(total))
        more = drops.to_say(now)
        if more:
            log.error(
                "the broker has dropped messages, for us or for another client of it: a queue was full. "
                "Raise max_queued_messages in mosquitto.conf",
                dropped=more,
            )

    @property
    def subscribed(self) -> bool:
        """The broker has granted all that we want, on the connection that stands."""
        return self._subscribed

    def heard(self, now: float) -> None:
        """A message came."""
        self._silence.ended(now)

    def holds(self, on: bool, now: float) -> None:
        """The socket is not read, or again."""
        self._holding = on
        if on:
            self._silence.is_ours()
        elif self._subscribed:
            self._silence.may_end(now)

    def look(self, now: float) -> None:
        """Every few seconds: has it been quiet for too long?"""
        if self._silence.is_due(now):
            log.warning(
                f"connected, subscribed, and nothing comes for {QUIET_S / 60:g} minutes: are all trackers silent, or "
                "may we not read? An ACL that grants every subscription and then delivers nothing looks like this"
            )
