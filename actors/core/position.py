"""A position as JSON: written once a change for dashboards and Redis, and read back from Redis.

Whatever wrote a value of Redis, only a valid one counts.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from actors.core.fix import E7, STATUSES, Fix, to_e7
from actors.core.identity import fix_id
from actors.core.timestamps import format_ms, parse_ms, text_of

_encoder = msgspec.json.Encoder()


def quoted(value: str) -> bytes:
    """A JSON string literal, quotes included."""
    return _encoder.encode(value)


class _Position(msgspec.Struct, gc=False, rename="camel"):
    """The object's members, in their order; UNSET ones do not appear."""

    participant_id: str
    race_id: str
    latitude: float
    longitude: float
    timestamp: str
    received_at: str
    status: str
    stale: bool | msgspec.UnsetType


def position_json(fix: Fix, stale: bool | None) -> bytes:
    """One position as a JSON object. `stale` None leaves the key out (Redis)."""
    return _encoder.encode(
        _Position(
            fix.participant_id,
            fix.race_id,
            # An int divided by 1e7 is the double nearest to it, so it prints with at most 7 decimals.
            fix.lat_e7 / E7,
            fix.lon_e7 / E7,
            text_of(fix.timestamp_ms, fix.sent_timestamp),
            _arrival_text(fix.arrived_ms),
            STATUSES[fix.status],
            msgspec.UNSET if stale is None else stale,
        )
    )


_arrival_text = lru_cache(maxsize=1024)(format_ms)  # fixes that came together have the same


class KeptPosition(msgspec.Struct, gc=False, rename="camel"):
    """What is read back of one; other members are skipped."""

    participant_id: str
    race_id: str
    latitude: float
    longitude: float
    timestamp: str
    status: str
    received_at: str = ""
    stale: bool = False


_decoder = msgspec.json.Decoder(KeptPosition)


def read_position(data: bytes, race_id: str, participant_id: str) -> Fix | None:
    """The fix, its id computed anew; None when the value is not a position of this participant in this race."""
    try:
        position = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return fix_of(position) if (position.race_id, position.participant_id) == (race_id, participant_id) else None


def fix_of(position: KeptPosition) -> Fix | None:
    """Its id computed anew; None when its values are none of a position."""
    timestamp_ms = parse_ms(position.timestamp)
    if (
        timestamp_ms is None
        or position.status not in STATUSES
        or abs(position.latitude) > 90
        or abs(position.longitude) > 180
    ):
        return None
    lat_e7, lon_e7, status = to_e7(position.latitude), to_e7(position.longitude), STATUSES.index(position.status)
    arrived_ms = parse_ms(position.received_at)
    return Fix(
        race_id=position.race_id,
        participant_id=position.participant_id,
        lat_e7=lat_e7,
        lon_e7=lon_e7,
        timestamp_ms=timestamp_ms,
        status=status,
        arrived_ms=timestamp_ms if arrived_ms is None else arrived_ms,
        id=fix_id(position.race_id, position.participant_id, timestamp_ms, lat_e7, lon_e7, status),
    )
