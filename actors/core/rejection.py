"""A rejection: what is kept of a payload that broke a rule, or of a fix that nobody can take."""

from __future__ import annotations

import attrs
import msgspec

from actors.core.errors import RejectionCode
from actors.core.fix import E7, STATUSES, Fix
from actors.core.identity import rejection_id
from actors.core.timestamps import format_ms

KEPT_BYTES = 4096  # of a rejected payload
MAX_DETAIL = 200  # characters

_encoder = msgspec.json.Encoder()


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


def rejection(
    topic: bytes,
    payload: bytes,
    arrived_ms: int,
    code: RejectionCode,
    detail: str,
    index: int = 0,
    element: bytes | None = None,
) -> Rejection:
    """A row of `tracking_rejections`. `payload`: the whole message; `element`: the part of it that is to blame."""
    return Rejection(
        id=rejection_id(topic, payload, index, code),
        received_ms=arrived_ms,
        # PostgreSQL's text cannot hold NUL.
        topic=topic.decode(errors="backslashreplace").replace("\0", "\\x00"),
        payload=(payload if element is None else element)[:KEPT_BYTES],
        code=code.value,
        detail=detail[:MAX_DETAIL],
    )


def payload_of(fix: Fix) -> bytes:
    """The fix as trackers send it: what `export` writes and `decode` takes back as the same fix."""
    return _encoder.encode(
        {
            "participant_id": fix.participant_id,
            "race_id": fix.race_id,
            # An int divided by 1e7 is the double nearest to it, so it prints with at most 7 decimals.
            "latitude": fix.lat_e7 / E7,
            "longitude": fix.lon_e7 / E7,
            "timestamp": format_ms(fix.timestamp_ms),
            "status": STATUSES[fix.status],
        }
    )


def poison(fix: Fix, topic: str, detail: str = "this fix could not be processed") -> Rejection:
    """For a fix that crashes us, or that PostgreSQL alone refuses. `topic` is empty where it is no longer known."""
    row = rejection(topic.encode(), payload_of(fix), fix.arrived_ms, RejectionCode.POISON, detail)
    return attrs.evolve(
        row,
        participant_id=fix.participant_id,
        race_id=fix.race_id,
        sent_timestamp=fix.sent_timestamp or format_ms(fix.timestamp_ms),
    )


def poison_message(topic: bytes, payload: bytes, arrived_ms: int) -> Rejection:
    """For a message that crashes us before it has become fixes, by a bug of ours."""
    return rejection(topic, payload, arrived_ms, RejectionCode.POISON, "this message could not be processed")
