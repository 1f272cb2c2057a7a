"""Whose turn it is to read the broker, as one of several nodes with the same client_id sees it.

A node reads while it holds the lock. When PostgreSQL is away nobody can take the lock over, so who had it last goes on,
and has a head start when PostgreSQL is back. Two may then believe that it is their turn, for a while. The broker knows
only one client of that name and ends the other's connection: who is ended so, soon after it was let in and without the
lock, was wrong.
"""

from __future__ import annotations

import math

import attrs

CHECK_S = 1.0
"""Between two looks of the holder whether its session with PostgreSQL, and so the lock, is still there."""

ASK_S = 0.5
"""Between two tries of the others."""

HEAD_START_S = 3.0
"""For so long after they reached PostgreSQL others do not take a free lock: who had it last may be on its way."""

SOON_S = 5.0
"""A connection to the broker that ends within this time of its CONNACK may have been ended by another reader's."""

PATIENCE_S = 10.0
"""Without the broker for so long the holder lets another node try."""

BEATEN_REST_S = 30.0
"""Another client has won, though we hold the lock: its lock is another server's, or it knows of none."""


@attrs.define
class Turn:
    """Times are seconds of one clock. Told what happened; says what follows."""

    held_last: bool  # nobody can have had the lock after us, as far as we know
    holds: bool = False
    _tried: bool = False  # whether PostgreSQL is there: the lock may be there for the asking
    _in_session_since: float = math.inf  # with PostgreSQL; inf: not
    _asked: float = -math.inf  # when last, in this session
    _seen_theirs: bool = False  # in this session: the lock was another node's
    _rest_until: float = -math.inf
    _on_broker_since: float | None = None  # since CONNACK
    _off_broker_since: float = math.inf  # inf: on it, or not reading

    @property
    def may_read(self) -> bool:
        """It is this node's turn."""
        return self.holds or (self.held_last and self._tried)

    def asks_at(self) -> float:
        """When the lock is to be asked for, or looked at; inf: there is no session with PostgreSQL."""
        if self._in_session_since == math.inf:
            return math.inf
        return max(self._in_session_since, self._asked + (CHECK_S if self.holds else ASK_S))

    def may_take(self, now: float) -> bool:
        """The lock, if it is free. Once somebody had it, it is known who comes back for it: nobody else."""
        if now < self._rest_until:
            return False
        return self.held_last or self._seen_theirs or now >= self._in_session_since + HEAD_START_S

    def gives_up_at(self) -> float:
        """When the holder is to let the lock go, because it has no broker; inf: it has one, or no lock."""
        return self._off_broker_since + PATIENCE_S if self.holds else math.inf

    def in_session(self, now: float) -> None:
        """A session with PostgreSQL begins."""
        self._in_session_since, self._asked, self._seen_theirs = now, -math.inf, False

    def session_lost(self) -> None:
        """It is over, or none came about: if the lock was ours, PostgreSQL has freed it, or will."""
        self._tried = True
        self.holds = False
        self._in_session_since = math.inf

    def answered(self, ours: bool | None, now: float) -> None:
        """PostgreSQL says whether the lock is ours, or another node's; None: nobody's."""
        self._tried = True
        self._asked = now
        self._seen_theirs |= ours is False
        if ours and not self.holds and self._on_broker_since is None:
            self._off_broker_since = now
        self.holds = self.held_last = bool(ours)

    def on_broker(self, now: float) -> None:
        """CONNACK."""
        self._on_broker_since, self._off_broker_since = now, math.inf

    def off_broker(self, now: float) -> None:
        """The connection to the broker has ended, or an attempt failed."""
        lasted_s = math.inf if self._on_broker_since is None else now - self._on_broker_since
        if lasted_s < SOON_S and not self.holds:
            self.held_last = False
        self._on_broker_since = None
        self._off_broker_since = min(self._off_broker_since, now)

    def parted(self) -> None:
        """We have left the broker, because it is not our turn."""
        self._on_broker_since, self._off_broker_since = None, math.inf

    def beaten(self, now: float) -> None:
        """Another client threw us out again and again."""
        self.held_last = False
        if self.holds:
            self._off_broker_since = now - PATIENCE_S
            self._rest_until = now + BEATEN_REST_S

    def let_go(self) -> None:
        """Our session with PostgreSQL was ended, so that another node may have the lock."""
        self.session_lost()
        self.held_last = False
