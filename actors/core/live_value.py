"""A live position as Redis holds it (drivers/redis.py), read back. Whatever wrote it, only a valid one counts."""

from __future__ import annotations

import msgspec

from actors.core.fix import STATUSES, Fix
from actors.core.identity import fix_id
from actors.core.judge import to_e7
from actors.core.timestamps import parse_ms


class _Position(msgspec.Struct):
    participantId: str
    raceId: str
    latitude: float
    longitude: float
    timestamp: str
    status: str
    receivedAt: str = ""


_decoder = msgspec.json.Decoder(_Position)


def read_position(data: bytes, race_id: str, participant_id: str) -> Fix | None:
    """The fix, its id computed anew; None when the value is not a position of this participant in this race."""
    try:
        position = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    timestamp_ms = parse_ms(position.timestamp)
    if (
        timestamp_ms is None
        or (position.raceId, position.participantId) != (race_id, participant_id)
        or position.status not in STATUSES
        or abs(position.latitude) > 90
        or abs(position.longitude) > 180
    ):
        return None
    lat_e7, lon_e7, status = to_e7(position.latitude), to_e7(position.longitude), STATUSES.index(position.status)
    arrived_ms = parse_ms(position.receivedAt)
    return Fix(
        race_id=race_id,
        participant_id=participant_id,
        lat_e7=lat_e7,
        lon_e7=lon_e7,
        timestamp_ms=timestamp_ms,
        status=status,
        arrived_ms=timestamp_ms if arrived_ms is None else arrived_ms,
        id=fix_id(race_id, participant_id, timestamp_ms, lat_e7, lon_e7, status),
    )
