"""The careful way from a payload to fixes and rejections: finds the first rule that is broken.

The rules and their order: README, "Payload" and "Rejections".

decode.py has the quick way for payloads that break none. Both share the checks of this file, and must agree.

JSON is what msgspec takes: strict RFC 8259, without lone surrogates, nested as deep as Python's recursion limit
allows (about 900 levels). What it skips, it checks as well, but for two things: UTF-8, which is checked here first,
and the size of numbers, so a number beyond a double matters only where a number is wanted.
"""

from __future__ import annotations

import math
import re
import unicodedata

import attrs
import msgspec

from actors.core.errors import RejectionCode as Code
from actors.core.fix import STATUS_INDEX, STATUSES, Fix, to_e7
from actors.core.identity import fix_id
from actors.core.ids import ID_RULE, MAX_ID, normal_id
from actors.core.rejection import Rejection, rejection
from actors.core.timestamps import DAY_MS, parse_ms

MAX_AHEAD_MS = DAY_MS
MAX_SENT_TIMESTAMP = 64  # characters of a timestamp that are given back in a receipt
SHOWN = 80  # characters of a value in a rejection's detail


_whole = msgspec.json.Decoder(msgspec.Raw)
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])  # of duplicate keys the last wins
_text = msgspec.json.Decoder(str)


@attrs.frozen
class Rules:
    """What the settings say about payloads."""

    max_payload_bytes: int
    max_elements: int = 1000
    topic_identity: str = "none"  # or participant_id, race_id
    topics: tuple[str, ...] = ()  # filters as subscribed to
    patterns: tuple[re.Pattern[bytes], ...] = attrs.field(init=False)  # of the filters with a `+`; group 1 is its level

    def __attrs_post_init__(self) -> None:
        found = tuple(_pattern(topic) for topic in self.topics if "+" in topic.split("/"))
        object.__setattr__(self, "patterns", found)

    def level(self, topic: bytes) -> bytes | None:
        """What the first `+` of the first matching filter stands for; None when no filter with a `+` matches."""
        for pattern in self.patterns:
            match = pattern.fullmatch(topic)
            if match is not None:
                return match[1]
        return None


def _pattern(topic_filter: str) -> re.Pattern[bytes]:
    """The filter as a regex (MQTT 5.0 section 4.7: `#` stands for its parent too, wildcards for no leading `$`)."""
    levels = topic_filter.split("/")
    rest = b""
    if levels[-1] == "#":
        levels.pop()
        rest = b"(?:/.*)?"
    parts = [b"([^/]*)" if level == "+" else re.escape(level.encode()) for level in levels]
    guard = rb"(?!\$)" if levels[0] == "+" else b""
    return re.compile(guard + b"/".join(parts) + rest, re.DOTALL)


class _Broken(Exception):
    """A rule of one fix is broken. Never leaves this file."""

    def __init__(self, code: Code, detail: str) -> None:
        self.code = code
        self.detail = detail


def validate(topic: bytes, payload: bytes, arrived_ms: int, rules: Rules) -> tuple[list[Fix], list[Rejection]]:
    """Every fix and every rejection of one message, each array element judged alone. Never raises."""

    def refused(code: Code, detail: str) -> tuple[list[Fix], list[Rejection]]:
        return [], [rejection(topic, payload, arrived_ms, code, detail)]

    try:
        start = payload.decode()[:1]
    except UnicodeDecodeError as error:
        return refused(Code.BAD_ENCODING, f"not UTF-8: byte {payload[error.start]:#04x} at {error.start}")
    if start == "\ufeff":
        return refused(Code.BAD_ENCODING, "begins with a byte order mark")
    try:
        _whole.decode(payload)
    except msgspec.DecodeError as error:
        return refused(Code.BAD_JSON, str(error) if payload else "empty payload")
    except RecursionError:
        return refused(Code.BAD_JSON, "nested too deep")
    if len(payload) > rules.max_payload_bytes:
        detail = f"{len(payload)} bytes, allowed are {rules.max_payload_bytes}"
        return refused(Code.TOO_LARGE, detail)

    is_array = payload.lstrip().startswith(b"[")
    elements = [bytes(each) for each in _elements.decode(payload)] if is_array else [payload]
    if len(elements) > rules.max_elements:
        return refused(Code.TOO_LARGE, f"{len(elements)} elements, allowed are {rules.max_elements}")
    fixes: list[Fix] = []
    rejections: list[Rejection] = []
    for index, element in enumerate(elements):
        # In this frame and not in _fix: one frame more could hit the recursion limit that the payload just kept.
        members = _members.decode(element) if element.lstrip().startswith(b"{") else None
        try:
            fixes.append(_fix(topic, members, element, arrived_ms, rules))
        except _Broken as broken:
            row = rejection(topic, payload, arrived_ms, broken.code, broken.detail, index, element)
            rejections.append(row if members is None else _named(row, members))
    return fixes, rejections


def _fix(topic: bytes, members: dict[str, msgspec.Raw] | None, element: bytes, arrived_ms: int, rules: Rules) -> Fix:
    """Check field by field in the order of the table. Raises _Broken for the first broken rule."""
    if members is None:
        raise _Broken(Code.BAD_TYPE, f"no JSON object: {_shown(element)}")
    participant_id = _id(members, "participant_id")
    race_id = _id(members, "race_id")
    latitude = _coordinate(members, "latitude", 90)
    longitude = _coordinate(members, "longitude", 180)
    lat_e7, lon_e7 = to_e7(latitude), to_e7(longitude)
    if lat_e7 == 0 == lon_e7:
        sent = f"{_shown(bytes(members['latitude']))}, {_shown(bytes(members['longitude']))}"
        raise _Broken(Code.NO_FIX, f"{sent} is 0, 0 in 7 decimals: a tracker without a fix")
    sent_timestamp = _string(members, "timestamp")
    timestamp_ms = parse_ms(sent_timestamp)
    if timestamp_ms is None:
        allowed = "YYYY-MM-DDThh:mm:ss[.fraction](Z or ±hh:mm), a real moment from 2000-01-01 UTC on"
        raise _Broken(Code.BAD_TIMESTAMP, f"timestamp {_quoted(sent_timestamp)}; allowed is {allowed}")
    if timestamp_ms > arrived_ms + MAX_AHEAD_MS:
        hours = (timestamp_ms - arrived_ms) / 3_600_000
        raise _Broken(Code.IN_THE_FUTURE, f"timestamp {_quoted(sent_timestamp)} is {hours:.1f} h ahead of the server")
    word = _string(members, "status") if "status" in members else STATUSES[0]
    status = STATUS_INDEX.get(word)
    if status is None:
        raise _Broken(Code.BAD_STATUS, f"status {_quoted(word)}; allowed are {', '.join(STATUSES)}")
    if rules.topic_identity != "none":
        claimed = participant_id if rules.topic_identity == "participant_id" else race_id
        _check_topic(topic, rules, claimed)
    return Fix(
        race_id=race_id,
        participant_id=participant_id,
        lat_e7=lat_e7,
        lon_e7=lon_e7,
        timestamp_ms=timestamp_ms,
        status=status,
        arrived_ms=arrived_ms,
        id=fix_id(race_id, participant_id, timestamp_ms, lat_e7, lon_e7, status),
        sent_timestamp=sent_timestamp,
    )


def _check_topic(topic: bytes, rules: Rules, claimed: str) -> None:
    level = rules.level(topic)
    found = None if level is None else unicodedata.normalize("NFC", level.decode(errors="backslashreplace"))
    if found != claimed:
        where = "matches no topic with a '+'" if found is None else f"says {_quoted(found)}"
        raise _Broken(Code.TOPIC_MISMATCH, f"{rules.topic_identity} is {_quoted(claimed)}, the topic {where}")


def _field(members: dict[str, msgspec.Raw], name: str) -> bytes:
    if name not in members:
        raise _Broken(Code.MISSING_FIELD, f"{name} is missing")
    return bytes(members[name])


def _string(members: dict[str, msgspec.Raw], name: str) -> str:
    value = _field(members, name)
    if not value.startswith(b'"'):
        raise _Broken(Code.BAD_TYPE, f"{name} is no string: {_shown(value)}")
    return _text.decode(value)


def _id(members: dict[str, msgspec.Raw], name: str) -> str:
    value = _string(members, name)
    normal = normal_id(value)
    if normal is None:
        raise _Broken(Code.BAD_ID, f"{name} {_quoted(value)}; allowed are {ID_RULE}")
    return normal


def _coordinate(members: dict[str, msgspec.Raw], name: str, limit: int) -> float:
    value = _field(members, name)
    if value[:1] not in b"-0123456789":
        raise _Broken(Code.BAD_TYPE, f"{name} is no number: {_shown(value)}")
    degrees = float(value)
    if math.isinf(degrees):
        raise _Broken(Code.BAD_TYPE, f"{name} is beyond a double: {_shown(value)}")
    if not -limit <= degrees <= limit:
        raise _Broken(Code.BAD_COORDINATE, f"{name} {_shown(value)}; allowed is -{limit}..{limit}")
    return degrees


def _shown(raw: bytes) -> str:
    """JSON as sent, shortened."""
    return _quoted(raw.decode())[1:-1]


def _quoted(text: str) -> str:
    """For a person: what does not print (NUL, line ends, marks that turn the direction) is escaped."""
    shown = repr(text[:SHOWN])
    if len(text) <= SHOWN and len(shown) <= SHOWN + 2:
        return shown
    return f"{shown[: SHOWN + 1]}...{shown[-1]}"


def _named(row: Rejection, members: dict[str, msgspec.Raw]) -> Rejection:
    """The rejection with what a receipt needs, as far as it can be read."""
    return attrs.evolve(
        row,
        participant_id=_readable(members, "participant_id", MAX_ID),
        race_id=_readable(members, "race_id", MAX_ID),
        sent_timestamp=_readable(members, "timestamp", MAX_SENT_TIMESTAMP),
    )


def _readable(members: dict[str, msgspec.Raw], name: str, longest: int) -> str | None:
    """The field as sent where it is a string of 1 to `longest` characters, not necessarily a valid id."""
    raw = bytes(members.get(name, b""))
    value = _text.decode(raw) if raw.startswith(b'"') else ""
    return value if 1 <= len(value) <= longest else None
