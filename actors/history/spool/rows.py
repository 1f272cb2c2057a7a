"""How fixes and rejections stand in the spool's tables, and which keys can be deleted in one go."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TypeAlias

import attrs

from actors.core.fix import Fix
from actors.core.rejection import Rejection

FixRow: TypeAlias = tuple[int, bytes, str, str, int, int, int, int, int, str]
"""(key, id and form, race_id, participant_id, lat_e7, lon_e7, timestamp_ms, status, arrived_ms, sent_timestamp)"""
RejectionRow: TypeAlias = tuple[int, bytes, int, bytes, bytes, bytes, bytes, bytes | None, bytes | None, bytes | None]
"""(key, id and form, received_ms, topic, payload, code, detail, participant_id, race_id, sent_timestamp)"""


ID_BYTES = 16
"""Nothing stands behind them in rows of a spool before version 2."""


@attrs.frozen
class SpooledBatch:
    """The oldest rows of the spool, each kind in the order of arrival."""

    keys: tuple[int, ...]  # of all fixes and rejections in it, ascending, for `remove`
    fix_keys: tuple[int, ...]  # of the fixes alone, in their order
    fixes: tuple[Fix, ...]
    rejections: tuple[Rejection, ...]


def fix_row(key: int, fix: Fix) -> FixRow:
    """Its texts passed the rules for names and timestamps, so SQLite's UTF-8 holds them."""
    return (
        key,
        fix.id + _form(fix.sent_timestamp),
        fix.race_id,
        fix.participant_id,
        fix.lat_e7,
        fix.lon_e7,
        fix.timestamp_ms,
        fix.status,
        fix.arrived_ms,
        fix.sent_timestamp,
    )


def fix_of(row: FixRow) -> Fix:
    """The reverse of fix_row."""
    _, fix_id, race_id, participant_id, lat_e7, lon_e7, timestamp_ms, status, arrived_ms, sent_timestamp = row
    fix_id = fix_id[:ID_BYTES]
    return Fix(race_id, participant_id, lat_e7, lon_e7, timestamp_ms, status, arrived_ms, fix_id, sent_timestamp)


def rejection_row(key: int, rejection: Rejection) -> RejectionRow:
    """Texts as bytes: what was rejected may hold anything, and a lone surrogate must not stop the spool."""
    return (
        key,
        rejection.id + _form(rejection.sent_timestamp or ""),
        rejection.received_ms,
        _pack(rejection.topic),
        rejection.payload,
        _pack(rejection.code),
        _pack(rejection.detail),
        _pack_some(rejection.participant_id),
        _pack_some(rejection.race_id),
        _pack_some(rejection.sent_timestamp),
    )


def rejection_of(row: RejectionRow) -> Rejection:
    """The reverse of rejection_row."""
    _, rejection_id, received_ms, topic, payload, code, detail, participant_id, race_id, sent_timestamp = row
    return Rejection(
        id=rejection_id[:ID_BYTES],
        received_ms=received_ms,
        topic=_unpack(topic),
        payload=payload,
        code=_unpack(code),
        detail=_unpack(detail),
        participant_id=_unpack_some(participant_id),
        race_id=_unpack_some(race_id),
        sent_timestamp=_unpack_some(sent_timestamp),
    )


def runs(keys: Iterable[int]) -> list[tuple[int, int]]:
    """Keys, in any order, as the fewest (first, last) that hold them and nothing else.

    What is drained stands together, so a batch of 1,000 rows is one or two deletes.
    """
    found: list[tuple[int, int]] = []
    for key in sorted(set(keys)):
        if found and found[-1][1] == key - 1:
            found[-1] = (found[-1][0], key)
        else:
            found.append((key, key))
    return found


def _form(sent_timestamp: str) -> bytes:
    """What is sent again in another form is a row of its own: its tracker wants its receipt in that form."""
    return zlib.crc32(_pack(sent_timestamp)).to_bytes(4, "big")


def _pack(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _pack_some(text: str | None) -> bytes | None:
    return None if text is None else _pack(text)


def _unpack(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _unpack_some(data: bytes | None) -> str | None:
    return None if data is None else _unpack(data)
