"""What the contract says that becomes of a fix, computed from its text and never by the daemon's own code."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

STATUSES = ("moving", "stopped", "finished", "disqualified")
POSITION = {"participantId", "raceId", "latitude", "longitude", "timestamp", "receivedAt", "status", "stale"}
"""What dashboards are told of one."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def utc(ms: int) -> str:
    """As dashboards are told a moment."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03}Z"


def unix_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


def e7(degrees: float) -> int:
    """`int(abs(x) * 1e7 + 0.5)` on the double, sign kept."""
    size = int(abs(degrees) * 1e7 + 0.5)
    return -size if degrees < 0 else size


def fix_id(fix: Mapping[str, Any]) -> str:
    """As the docstring in actors/core/identity.py says, word for word. 48 | 4 version | 12 | 2 variant | 62."""
    ms = unix_ms(fix["timestamp"])
    body = b"fix1"
    for name in (fix["race_id"], fix["participant_id"]):
        body += struct.pack(">H", len(name.encode())) + name.encode()
    status = STATUSES.index(fix.get("status", "moving"))
    body += struct.pack(">qiiB", ms, e7(fix["latitude"]), e7(fix["longitude"]), status)
    bits = int.from_bytes(blake2b(body, digest_size=10).digest(), "big") >> 6
    number = ms << 80 | 8 << 76 | bits >> 62 << 64 | 2 << 62 | bits & (1 << 62) - 1
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def fix(race: str, participant: str = "P1", at: str | int = "2026-06-01T08:00:00Z", **more: Any) -> dict[str, Any]:
    """A fix as a tracker would send it; `at` in Unix ms or as text."""
    where = {"latitude": 47.5, "longitude": 8.25}
    moment = at if isinstance(at, str) else utc(at)
    return {"participant_id": participant, "race_id": race, **where, "timestamp": moment, "status": "moving"} | more


def row(sent: Mapping[str, Any]) -> tuple[Any, ...]:
    """The row that a fix must become, as `Station.rows` reads it."""
    return (
        fix_id(sent),
        sent["participant_id"],
        sent["race_id"],
        degrees(e7(sent["latitude"])),
        degrees(e7(sent["longitude"])),
        f"{unix_ms(sent['timestamp'])}.000000",
        sent.get("status", "moving"),
    )


def degrees(value: int) -> str:
    """As numeric(10,7) shows itself."""
    return f"{'-' if value < 0 else ''}{abs(value) // 10**7}.{abs(value) % 10**7:07}"
