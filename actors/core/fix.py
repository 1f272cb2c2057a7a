"""A fix: one position of one participant at one moment, and what is rejected instead of becoming one."""

from __future__ import annotations

import attrs
import msgspec

STATUSES = ("moving", "stopped", "finished", "disqualified")
"""The order counts: the index is the uint8 of the id and the second key of the live position."""

E7 = 10_000_000
"""Coordinates are kept as integers of 1e-7 degree."""

MOVING, STOPPED, FINISHED, DISQUALIFIED = range(4)


class Fix(msgspec.Struct, frozen=True, gc=False):
    """One validated fix, already truncated to milliseconds and rounded to 7 decimals.

    A msgspec Struct and not attrs because one is built for each fix that arrives: 0.1 µs instead of 0.5.
    """

    race_id: str
    participant_id: str
    lat_e7: int  # latitude · 10^7, -900000000..900000000
    lon_e7: int  # longitude · 10^7
    timestamp_ms: int  # Unix ms, by the tracker's clock
    status: int  # index into STATUSES
    arrived_ms: int  # Unix ms, by this daemon's clock
    id: bytes  # 16 bytes, see identity.fix_id
    sent_timestamp: str = ""  # as the tracker wrote it, for receipts; empty when read back from a store

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """The order of live positions: the greatest fix of a participant is live."""
        return (self.timestamp_ms, self.status, self.id)


@attrs.frozen
class Rejection:
    """One payload, or one element of an array, that broke a rule; becomes a row of `tracking_rejections`."""

    id: bytes  # 16 bytes: a hash of topic, payload, element index and code
    received_ms: int  # Unix ms
    topic: str  # bytes that are not UTF-8 are written as backslash escapes
    payload: bytes  # the message or the element, first 4,096 bytes
    code: str  # a RejectionCode
    detail: str  # for a person: what was wrong, at most 200 characters
    participant_id: str | None = None  # where they could be read: for receipts
    race_id: str | None = None
    sent_timestamp: str | None = None
