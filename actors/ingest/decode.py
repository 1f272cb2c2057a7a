"""Topic and payload -> fixes and rejections. The quick way; validate.py is the careful one.

A payload that breaks no rule is decoded by msgspec straight into a typed struct and checked in a few steps: 3 µs a
fix. Whatever does not come through here is judged again from the beginning by `validate`, which knows the order of the
rules and what to tell the operator. An array goes the careful way as a whole when one of its elements does.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from actors.core.fix import STATUS_INDEX, STATUSES, Fix
from actors.core.identity import fix_id
from actors.core.ids import is_usual, normal_id
from actors.core.rejection import Rejection
from actors.core.timestamps import parse_ms
from actors.ingest.validate import MAX_AHEAD_MS, Rules, validate


class _Sent(msgspec.Struct, gc=False):
    """The fields as sent; other keys are skipped, but still have to be JSON."""

    participant_id: str
    race_id: str
    latitude: Annotated[float, msgspec.Meta(ge=-90.0, le=90.0)]
    longitude: Annotated[float, msgspec.Meta(ge=-180.0, le=180.0)]
    timestamp: str
    status: str = STATUSES[0]


_decode = msgspec.json.Decoder(_Sent | list[_Sent]).decode


def decode(topic: bytes, payload: bytes, arrived_ms: int, rules: Rules) -> tuple[list[Fix], list[Rejection]]:
    """What one message holds, in the order of its elements. Never raises, whatever the bytes.

    `arrived_ms`: Unix ms by the daemon's clock. `[]` gives ([], []).
    """
    fixes = quick(topic, payload, arrived_ms, rules)
    return validate(topic, payload, arrived_ms, rules) if fixes is None else (fixes, [])


def quick(topic: bytes, payload: bytes, arrived_ms: int, rules: Rules) -> list[Fix] | None:
    """All fixes of a message that breaks no rule; None when it does, or when only a closer look can tell."""
    if len(payload) > rules.max_payload_bytes:
        return None
    try:
        if not payload.isascii():
            payload.decode()  # msgspec does not look at the encoding of what it skips
        sent = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(sent, _Sent):
        fix = _checked(sent, topic, arrived_ms, rules)
        return None if fix is None else [fix]
    if len(sent) > rules.max_elements:
        return None
    fixes: list[Fix] = []
    for each in sent:
        fix = _checked(each, topic, arrived_ms, rules)
        if fix is None:
            return None
        fixes.append(fix)
    return fixes


def _checked(sent: _Sent, topic: bytes, arrived_ms: int, rules: Rules) -> Fix | None:
    participant_id = sent.participant_id if is_usual(sent.participant_id) else normal_id(sent.participant_id)
    race_id = normal_id(sent.race_id)
    latitude, longitude = sent.latitude, sent.longitude
    timestamp_ms = parse_ms(sent.timestamp)
    status = STATUS_INDEX.get(sent.status)
    if (
        participant_id is None
        or race_id is None
        or timestamp_ms is None
        or timestamp_ms > arrived_ms + MAX_AHEAD_MS
        or status is None
    ):
        return None
    # `to_e7`, without a call: this is done for each fix that comes.
    lat_e7 = int(latitude * 1e7 + 0.5) if latitude >= 0 else -int(0.5 - latitude * 1e7)
    lon_e7 = int(longitude * 1e7 + 0.5) if longitude >= 0 else -int(0.5 - longitude * 1e7)
    if lat_e7 == 0 == lon_e7:
        return None
    if rules.topic_identity != "none":
        claimed = participant_id if rules.topic_identity == "participant_id" else race_id
        if rules.level(topic) != claimed.encode():
            return None
    return Fix(
        race_id,
        participant_id,
        lat_e7,
        lon_e7,
        timestamp_ms,
        status,
        arrived_ms,
        fix_id(race_id, participant_id, timestamp_ms, lat_e7, lon_e7, status),
        sent.timestamp,
    )
