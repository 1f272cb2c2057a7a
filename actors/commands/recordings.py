"""Recorded fixes from a file: JSON lines (plain or gzip) as `export` writes them, or the tracks of a GPX file."""

from __future__ import annotations

import gzip
import json
import unicodedata
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import gpxpy
import gpxpy.gpx
import msgspec

from actors.core.judge import MAX_ID, normal_id
from actors.core.timestamps import format_ms, parse_ms
from actors.errors import TrackingError

_strict = msgspec.json.Decoder(msgspec.Raw)  # unlike json, takes no NaN and no lone surrogates

SUFFIXES = (".jsonl", ".jsonl.gz", ".gpx")


class UnreadableRecording(TrackingError):
    """The file cannot be read, or is not what its name says."""


@attrs.frozen
class Recorded:
    """One message to publish."""

    participant_id: str  # for the topic; as written in the file, empty where it cannot be told
    race_id: str
    at_ms: int | None  # Unix ms of the (first) fix; None where it cannot be told
    payload: bytes


@attrs.frozen
class Recording:
    """A file, and what of it is wanted."""

    path: Path
    race: str | None = None  # JSON lines: only this race; GPX: the race's name
    participant: str | None = None  # JSON lines: only this one; GPX: the participant's name

    @property
    def is_known(self) -> bool:
        """The file's name says how to read it."""
        return self.path.name.endswith(SUFFIXES)

    def read(self, shift_ms: int = 0) -> Iterator[Recorded]:
        """In the order of the file, all timestamps moved by `shift_ms`. Raises UnreadableRecording."""
        try:
            if self.path.suffix == ".gpx":
                yield from self._gpx(shift_ms)
            else:
                yield from self._lines(shift_ms)
        except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise UnreadableRecording(f"{self.path}: cannot be read: {reason}") from error

    def _lines(self, shift_ms: int) -> Iterator[Recorded]:
        with gzip.open(self.path) if self.path.suffix == ".gz" else self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                payload = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
                if not payload:
                    continue
                try:
                    payload.decode()
                    _strict.decode(payload)
                    value = json.loads(payload, parse_int=_whole_number)
                except (ValueError, RecursionError) as error:  # UnicodeDecodeError and msgspec.DecodeError too
                    raise UnreadableRecording(f"{self.path}: line {number} is not valid JSON: {error}") from error
                recorded = self._wanted(value, payload, shift_ms)
                if recorded is not None:
                    yield recorded

    def _wanted(self, value: Any, payload: bytes, shift_ms: int) -> Recorded | None:  # noqa: ANN401 any JSON
        """The message for one line, as it stands there unless a part is left out or moved in time."""
        found = value if isinstance(value, list) else [value]
        kept = [item for item in found if self._matches(item)]
        if not kept and (found or self.race is not None or self.participant is not None):
            return None
        if shift_ms:
            kept = [_shifted(item, shift_ms) for item in kept]
        if shift_ms or len(kept) < len(found):
            payload = msgspec.json.encode(kept if isinstance(value, list) else kept[0])
        first = kept[0] if kept and isinstance(kept[0], dict) else {}
        at_ms = parse_ms(_text(first, "timestamp"))
        return Recorded(_text(first, "participant_id"), _text(first, "race_id"), at_ms, payload)

    def _matches(self, item: object) -> bool:
        if self.race is None and self.participant is None:
            return True
        if not isinstance(item, dict):
            return False
        return (self.race in (None, item.get("race_id"))) and (self.participant in (None, item.get("participant_id")))

    def _gpx(self, shift_ms: int) -> Iterator[Recorded]:
        try:
            gpx = gpxpy.parse(self.path.read_bytes())
        except (gpxpy.gpx.GPXException, ValueError) as error:
            raise UnreadableRecording(f"{self.path}: not valid GPX: {error}") from error
        race_id = self.race or valid_id(self.path.stem, "R-gpx")
        taken: set[str] = set()
        for number, track in enumerate(gpx.tracks, 1):
            name = self.participant or valid_id(track.name or "", f"P{number:03d}")
            participant_id = _unused(name, taken)
            for segment in track.segments:
                for point in segment.points:
                    if point.time is not None:
                        at_ms = _unix_ms(point.time) + shift_ms
                        yield _point(participant_id, race_id, at_ms, point)


def _whole_number(digits: str) -> int | float:
    """Python refuses to read integers of more than 4,300 digits, which JSON allows."""
    return int(digits) if len(digits) < 400 else float(digits)


def _point(participant_id: str, race_id: str, at_ms: int, point: gpxpy.gpx.GPXTrackPoint) -> Recorded:
    fix = {
        "participant_id": participant_id,
        "race_id": race_id,
        "latitude": round(point.latitude, 7),
        "longitude": round(point.longitude, 7),
        "timestamp": format_ms(at_ms),
        "status": "moving",
    }
    return Recorded(participant_id, race_id, at_ms, msgspec.json.encode(fix))


def valid_id(name: str, instead: str) -> str:
    """The name as an id: what ids cannot hold becomes `-`. `instead` where nothing is left of it."""
    text = unicodedata.normalize("NFC", name.strip())
    clean = "".join(c if normal_id("a" + c) else "-" for c in text)[:MAX_ID]
    while clean and not normal_id(clean[0]):
        clean = clean[1:]
    return clean.rstrip("-") or instead


def _unused(name: str, taken: set[str]) -> str:
    """The name, with -2, -3 ... when another track has it already; remembered in `taken`."""
    unused, number = name, 1
    while unused in taken:
        number += 1
        ending = f"-{number}"
        unused = name[: MAX_ID - len(ending)] + ending
    taken.add(unused)
    return unused


def _unix_ms(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _shifted(item: Any, shift_ms: int) -> Any:  # noqa: ANN401 any JSON
    at_ms = parse_ms(_text(item, "timestamp")) if isinstance(item, dict) else None
    return item if at_ms is None else item | {"timestamp": format_ms(at_ms + shift_ms)}


def _text(item: Any, name: str) -> str:  # noqa: ANN401 any JSON object
    value = item.get(name)
    return value if isinstance(value, str) else ""
