"""Positions and events of http/asyncapi.json as JSON bytes: encoded once per change, shared by every dashboard.

A position is one struct through the encoder; what is built around positions is joined from ready-made bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from actors.core.position import quoted
from actors.core.timestamps import format_ms
from actors.dashboards.frames import Shared

RequestId = str | int | None

_encoder = msgspec.json.Encoder()


def update_event(position: bytes) -> bytes:
    """`position_update`: the only change of its window."""
    return b'{"event":"position_update","data":%b}' % position


def changes_event(race_id: str, positions: Sequence[bytes]) -> bytes:
    """One or more changes of one race, in order."""
    return update_event(positions[0]) if len(positions) == 1 else batch_event(race_id, positions)


def batch_event(race_id: str, positions: Sequence[bytes]) -> bytes:
    """`batch_position_update`: two or more changes of one race, in order."""
    return b'{"event":"batch_position_update","data":{"raceId":%b,"positions":[%b]}}' % (
        quoted(race_id),
        b",".join(positions),
    )


def snapshot_event(
    race_id: str, positions: Iterable[Shared], server_time_ms: int, request_id: RequestId = None, resync: bool = False
) -> list[bytes | Shared]:
    """`race_snapshot` in parts. `positions` have their commas already: the race keeps them so for all dashboards."""
    before = b'{"event":"race_snapshot","data":{"raceId":%b,"positions":[' % quoted(race_id)
    after = b'],"serverTime":"%b"%b}%b}' % (
        format_ms(server_time_ms).encode(),
        b',"resync":true' if resync else b"",
        _id_member(request_id),
    )
    return [before, *positions, after]


def stale_event(race_id: str, participant_id: str, last_timestamp_ms: int) -> bytes:
    """`participant_stale`: nothing newer came for stale_data_threshold_ms."""
    return b'{"event":"participant_stale","data":{"raceId":%b,"participantId":%b,"lastTimestamp":"%b"}}' % (
        quoted(race_id),
        quoted(participant_id),
        format_ms(last_timestamp_ms).encode(),
    )


def reply(event: str, data: Any, request_id: RequestId = None) -> bytes:  # noqa: ANN401 whatever msgspec can encode
    """Any other reply. `data` is encoded here, or taken as it is where it is bytes (JSON already)."""
    body = data if isinstance(data, bytes) else _encoder.encode(data)
    return b'{"event":%b,"data":%b%b}' % (quoted(event), body, _id_member(request_id))


def error_event(code: str, message: str, request_id: RequestId = None) -> bytes:
    """`error`: the request failed, the connection stays."""
    return reply("error", {"code": str(code), "message": message}, request_id)


def _id_member(request_id: RequestId) -> bytes:
    return b"" if request_id is None else b',"id":%b' % _encoder.encode(request_id)
