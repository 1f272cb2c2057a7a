"""Makes fixes for tests: short to write, valid by construction."""

from __future__ import annotations

from actors.core.fix import Fix
from actors.core.identity import fix_id

BASE_MS = 1_751_357_730_000  # 2025-07-01T08:15:30Z


def make_fix(
    participant_id: str = "P001",
    at_s: float = 0.0,
    *,
    race_id: str = "R1",
    lat: float = -7.9456,
    lon: float = 112.6145,
    status: int = 0,
    arrived_s: float | None = None,
) -> Fix:
    """A fix `at_s` seconds after BASE_MS that arrived when it was taken, unless `arrived_s` says otherwise."""
    at_ms = BASE_MS + round(at_s * 1000)
    lat_e7, lon_e7 = round(lat * 1e7), round(lon * 1e7)
    return Fix(
        race_id=race_id,
        participant_id=participant_id,
        lat_e7=lat_e7,
        lon_e7=lon_e7,
        timestamp_ms=at_ms,
        status=status,
        arrived_ms=at_ms if arrived_s is None else BASE_MS + round(arrived_s * 1000),
        id=fix_id(race_id, participant_id, at_ms, lat_e7, lon_e7, status),
    )
