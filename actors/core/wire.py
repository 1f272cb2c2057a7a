"""Positions and events of api/asyncapi.json as JSON bytes: encoded once per change, shared by every dashboard.

A position is one struct through the encoder; what is built around positions is joined from ready-made bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from actors.core.fix import E7, STATUSES, Fix
from actors.core.timestamps import format_ms, text_of

RequestId = str | int | None

_encoder = msgspec.json.Encoder()
_FIN_TEXT = b"\x81"  # RFC 6455 section 5.2: FIN set, opcode 1


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


def update_event(position: bytes) -> bytes:
    """`position_update`: the only change of its window."""
    return b'{"event":"position_update","data":%b}' % position


def batch_event(race_id: str, positions: Sequence[bytes]) -> bytes:
    """`batch_position_update`: two or more changes of one race, in order."""
    return b'{"event":"batch_position_update","data":{"raceId":%b,"positions":[%b]}}' % (
        quoted(race_id),
        b",".join(positions),
    )


def snapshot_event(
    race_id: str, positions: bytes, server_time_ms: int, request_id: RequestId = None, resync: bool = False
) -> bytes:
    """`race_snapshot`. `positions` are joined by commas already: the race keeps them so for all its dashboards."""
    return b'{"event":"race_snapshot","data":{"raceId":%b,"positions":[%b],"serverTime":"%b"%b}%b}' % (
        quoted(race_id),
        positions,
        format_ms(server_time_ms).encode(),
        b',"resync":true' if resync else b"",
        _id_member(request_id),
    )


def stale_event(race_id: str, participant_id: str, last_timestamp_ms: int) -> bytes:
    """`participant_stale`: nothing newer came for stale_data_threshold_ms."""
    return b'{"event":"participant_stale","data":{"raceId":%b,"participantId":%b,"lastTimestamp":"%b"}}' % (
        quoted(race_id),
        quoted(participant_id),
        format_ms(last_timestamp_ms).encode(),
    )


def history_data(positions: Iterable[bytes], next_cursor: str | None) -> bytes:
    """`data` of `history`: positions oldest first; `next_cursor` None when nothing is left."""
    cursor = b"null" if next_cursor is None else quoted(next_cursor)
    return b'{"positions":[%b],"nextCursor":%b}' % (b",".join(positions), cursor)


def reply(event: str, data: Any, request_id: RequestId = None) -> bytes:  # noqa: ANN401 whatever msgspec can encode
    """Any other reply. `data` is encoded here, or taken as it is where it is bytes (JSON already)."""
    body = data if isinstance(data, bytes) else _encoder.encode(data)
    return b'{"event":%b,"data":%b%b}' % (quoted(event), body, _id_member(request_id))


def error_event(code: str, message: str, request_id: RequestId = None) -> bytes:
    """`error`: the request failed, the connection stays."""
    return reply("error", {"code": str(code), "message": message}, request_id)


def text_frame(payload: bytes) -> bytes:
    """One whole text frame from a server, so not masked (RFC 6455 sections 5.1 and 5.2)."""
    return frame_head(len(payload)) + payload


def frame_head(length: int) -> bytes:
    """The 2, 4 or 10 bytes before a text payload of `length` bytes (RFC 6455 section 5.2)."""
    if length < 126:
        return _FIN_TEXT + bytes((length,))
    if length < 65536:
        return _FIN_TEXT + b"\x7e" + length.to_bytes(2, "big")
    return _FIN_TEXT + b"\x7f" + length.to_bytes(8, "big")


def _id_member(request_id: RequestId) -> bytes:
    return b"" if request_id is None else b',"id":%b' % _encoder.encode(request_id)
