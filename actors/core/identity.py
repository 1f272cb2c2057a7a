"""Ids that are functions of what they name, so that the same fix sent again is the same row.

UUIDs of RFC 9562 version 8: custom, so the hash is ours to choose; version and variant bits stand where they must.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import blake2b

LAST_MS = (1 << 48) - 1
"""The last moment that an id can begin with, in the year 10889."""

_VERSION_8 = 0x8 << 76
_VARIANT = 0b10 << 62
_LOW_62 = (1 << 62) - 1
_LOW_122 = (1 << 122) - 1
_named = [struct.Struct(f">H{length}sqiiB").pack for length in range(201)]  # by the length of a name in bytes
_hash = struct.Struct(">HQ").unpack
_id = struct.Struct(">QQ").pack


def fix_id(race_id: str, participant_id: str, timestamp_ms: int, lat_e7: int, lon_e7: int, status: int) -> bytes:
    """16 bytes: 48 bits of Unix ms, 4 of version, 12 hash bits, 2 of variant, 62 hash bits.

    Ids are at most 50 code points in NFC; `timestamp_ms` is 0..2^48-1, coordinates are degrees · 10^7. The 74 hash bits
    are the first of BLAKE2b (digest_size 10) over: `fix1`; race id, participant id (each 2 bytes of length, UTF-8);
    int64 ms; int32 latitude, int32 longitude; uint8 status (0 moving .. 3); all big-endian. The fix that README,
    "Payload" begins with has the id 0197c50e-2cd0-8308-91bb-9f03721812bf.
    """
    participant = participant_id.encode()
    length = len(participant)
    hasher = _race(race_id).copy()
    hasher.update(_named[length](length, participant, timestamp_ms, lat_e7, lon_e7, status))
    upper, lower = _hash(hasher.digest())
    # 12 bits of `upper` stand beside the version, its last 4 with all of `lower` but 6 bits behind the variant. In two
    # halves, because numbers beyond 64 bits take twice as long.
    return _id(timestamp_ms << 16 | 0x8000 | upper >> 4, _VARIANT | (upper & 15) << 58 | lower >> 6)


def first_id(timestamp_ms: int) -> bytes:
    """16 bytes: no fix of this moment (Unix ms) or a later one has a lesser id, all earlier ones do."""
    return _id(min(max(timestamp_ms, 0), LAST_MS) << 16, 0)


@lru_cache(maxsize=4096)  # some 600 bytes each: under 3 MB; races are few, unlike participants
def _race(race_id: str) -> blake2b:
    """What has been hashed up to there: a copy of it takes half the time of a new one."""
    race = race_id.encode()
    return blake2b(b"fix1" + len(race).to_bytes(2, "big") + race, digest_size=10)


def rejection_id(topic: bytes, payload: bytes, element: int, code: str) -> bytes:
    """16 bytes: BLAKE2b over topic, whole payload, index of the element (0 outside of arrays) and code.

    The same broken message delivered again is the same row. No time in it: a rejection need not have one.
    """
    hasher = blake2b(digest_size=16)
    for part in (b"rejection1", topic, payload, element.to_bytes(4, "big"), code.encode()):
        hasher.update(len(part).to_bytes(4, "big"))
        hasher.update(part)
    hashed = int.from_bytes(hasher.digest(), "big") & _LOW_122
    value = hashed >> 74 << 80 | _VERSION_8 | (hashed >> 62 & 0xFFF) << 64 | _VARIANT | hashed & _LOW_62
    return value.to_bytes(16, "big")
