"""Points -> fixes, each judged alone: the rules of the payload, and what only a recording can get wrong."""

from __future__ import annotations

import math
import re
from datetime import tzinfo

import attrs
import msgspec

from actors.core.errors import RejectionCode
from actors.core.fix import Fix
from actors.core.timestamps import DAY_MS, LATEST_MS, format_ms
from actors.ingest.decode import decode
from actors.ingest.validate import Rules
from actors.recordings.points import LeftOut, Point, Reason
from actors.recordings.times import time_ms

MARKERS = {(90.0, -80.0), (100.0, 180.0)}
"""What Huawei and OpenTracks write into a pause, latitude and longitude: the first one is on the globe."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_encoder = msgspec.json.Encoder()
_RULES = Rules(max_payload_bytes=10_000)  # of our own payload, which is far smaller


@attrs.define
class Judge:
    """Of the points of one file, in its order. Remembers every time that it has taken: 8 MB of 100,000."""

    race_id: str
    participant_id: str
    zone: tzinfo | None = None  # of times that have none
    shift_ms: int = 0  # what every time is moved by
    latest_ms: int = LATEST_MS  # of a time after that; a day ahead of the clock that the daemon will judge by
    _last_ms: int | None = None
    _seen: dict[str, set[int]] = attrs.field(factory=dict)  # by participant

    def judge(self, point: Point) -> Fix | Reason:
        """The fix, as the daemon will have it, or why there is none."""
        if point.planned:
            return LeftOut.ROUTE
        recorded_ms = time_ms(point.time or "", self.zone, self._last_ms)
        if not isinstance(recorded_ms, int):
            return recorded_ms
        if point.latitude is None or point.longitude is None:
            return RejectionCode.MISSING_FIELD
        latitude, longitude = _number(point.latitude), _number(point.longitude)
        if (latitude, longitude) in MARKERS:
            return LeftOut.MARKER
        owner = self.participant_id if point.participant is None else point.participant
        fix = self._fix(owner, latitude, longitude, recorded_ms + self.shift_ms)
        if not isinstance(fix, Fix):
            return fix
        seen = self._seen.setdefault(fix.participant_id, set())
        if recorded_ms in seen:
            return LeftOut.REPEATED
        seen.add(recorded_ms)
        self._last_ms = recorded_ms
        return fix

    def _fix(self, owner: str, latitude: float, longitude: float, at_ms: int) -> Fix | Reason:
        if not math.isfinite(latitude) or not math.isfinite(longitude):
            return RejectionCode.BAD_COORDINATE
        if not 0 <= at_ms <= LATEST_MS:
            return RejectionCode.BAD_TIMESTAMP
        payload = _encoder.encode(
            {
                "participant_id": owner,
                "race_id": self.race_id,
                "latitude": latitude,
                "longitude": longitude,
                "timestamp": format_ms(at_ms),
            }
        )
        fixes, rejections = decode(b"", payload, self.latest_ms - DAY_MS, _RULES)
        return fixes[0] if fixes else RejectionCode(rejections[0].code)


def _number(text: str) -> float:
    """NaN where it is none: Python's own float takes `1_0`, `nan` and digits of every script."""
    stripped = text.strip()
    return float(stripped) if _NUMBER.fullmatch(stripped) else math.nan
