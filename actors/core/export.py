"""Fixes as a file: jsonl (replayable, CONTRACT section 3), csv, geojson, gpx; in chunks, so that memory stays flat.

geojson and gpx hold a track a participant: give them fixes ordered by participant (`by_participant`), then time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Protocol
from xml.sax.saxutils import escape

import msgspec

from actors.core.fix import STATUSES, Fix
from actors.core.timestamps import format_ms

_json = msgspec.json.Encoder()


class Formatter(Protocol):
    """One export: `header()`, then `chunk()` any number of times, then `footer()`; joined they are the file."""

    media_type: str
    extension: str
    by_participant: bool  # the order that the chunks must have: by participant and time, or by time alone

    def header(self) -> bytes: ...
    def chunk(self, fixes: Sequence[Fix]) -> bytes: ...
    def footer(self) -> bytes: ...


class Jsonl:
    """A line a fix, in the form in which trackers send it."""

    media_type = "application/x-ndjson"
    extension = "jsonl"
    by_participant = False

    def header(self) -> bytes:
        return b""

    def chunk(self, fixes: Sequence[Fix]) -> bytes:
        return b"".join(
            b'{"participant_id":%b,"race_id":%b,"latitude":%b,"longitude":%b,"timestamp":"%b","status":"%b"}\n'
            % (
                _json.encode(fix.participant_id),
                _json.encode(fix.race_id),
                _json.encode(fix.lat_e7 / 1e7),
                _json.encode(fix.lon_e7 / 1e7),
                format_ms(fix.timestamp_ms).encode(),
                STATUSES[fix.status].encode(),
            )
            for fix in fixes
        )

    def footer(self) -> bytes:
        return b""


class Csv:
    """RFC 4180, with a header line."""

    media_type = "text/csv"
    extension = "csv"
    by_participant = False

    def header(self) -> bytes:
        names = ("participant_id", "race_id", "latitude", "longitude", "timestamp", "received_at", "status")
        return _csv_lines([names])

    def chunk(self, fixes: Sequence[Fix]) -> bytes:
        return _csv_lines(
            (
                _cell(fix.participant_id),
                _cell(fix.race_id),
                _degrees(fix.lat_e7),
                _degrees(fix.lon_e7),
                format_ms(fix.timestamp_ms),
                format_ms(fix.arrived_ms),
                STATUSES[fix.status],
            )
            for fix in fixes
        )

    def footer(self) -> bytes:
        return b""


class Geojson:
    """RFC 7946: a LineString a participant, its times in `coordTimes`; a single fix is a Point."""

    media_type = "application/geo+json"
    extension = "geojson"
    by_participant = True

    def __init__(self) -> None:
        self._first: Fix | None = None  # of the participant under way
        self._times: list[bytes] = []  # of its fixes: all that is kept, 70 bytes a fix of one participant
        self._last = b""  # its last position, and
        self._status = 0  # status
        self._features = 0

    def header(self) -> bytes:
        return b'{"type":"FeatureCollection","features":['

    def chunk(self, fixes: Sequence[Fix]) -> bytes:
        out = bytearray()
        for fix in fixes:
            if self._first is None or (fix.participant_id, fix.race_id) != (
                self._first.participant_id,
                self._first.race_id,
            ):
                out += self._end()
                self._first = fix
            elif len(self._times) == 1:
                out += self._begin(b"LineString") + b"[" + self._last
            self._last = b"[%b,%b]" % (_json.encode(fix.lon_e7 / 1e7), _json.encode(fix.lat_e7 / 1e7))
            if self._times:
                out += b"," + self._last
            self._times.append(b'"%b"' % format_ms(fix.timestamp_ms).encode())
            self._status = fix.status
        return bytes(out)

    def footer(self) -> bytes:
        return self._end() + b"]}\n"

    def _begin(self, kind: bytes) -> bytes:
        comma = b",\n" if self._features else b"\n"
        self._features += 1
        return comma + b'{"type":"Feature","geometry":{"type":"%b","coordinates":' % kind

    def _end(self) -> bytes:
        if self._first is None:
            return b""
        # A LineString needs two positions (RFC 7946 section 3.1.4).
        shape = self._begin(b"Point") + self._last if len(self._times) == 1 else b"]"
        times, self._times = b",".join(self._times), []
        return shape + b'},"properties":{"participantId":%b,"raceId":%b,"status":"%b","coordTimes":[%b]}}' % (
            _json.encode(self._first.participant_id),
            _json.encode(self._first.race_id),
            STATUSES[self._status].encode(),
            times,
        )


class Gpx:
    """GPX 1.1 (https://www.topografix.com/GPX/1/1/): a track a participant, a point a fix."""

    media_type = "application/gpx+xml"
    extension = "gpx"
    by_participant = True

    def __init__(self) -> None:
        self._track: tuple[str, str] | None = None  # race and participant under way

    def header(self) -> bytes:
        return (
            b'<?xml version="1.0" encoding="UTF-8"?>\n'
            b'<gpx version="1.1" creator="race-tracking" xmlns="http://www.topografix.com/GPX/1/1">\n'
        )

    def chunk(self, fixes: Sequence[Fix]) -> bytes:
        out: list[str] = []
        for track, points in groupby(fixes, key=lambda fix: (fix.race_id, fix.participant_id)):
            if track != self._track:
                out.append(self._end())
                race, participant = (escape(_xml_text(name)) for name in track)
                out.append(f"<trk><name>{participant}</name><desc>{race}</desc><trkseg>\n")
                self._track = track
            out += (
                f'<trkpt lat="{_degrees(fix.lat_e7)}" lon="{_degrees(fix.lon_e7)}">'
                f"<time>{format_ms(fix.timestamp_ms)}</time><desc>{STATUSES[fix.status]}</desc></trkpt>\n"
                for fix in points
            )
        return "".join(out).encode()

    def footer(self) -> bytes:
        return f"{self._end()}</gpx>\n".encode()

    def _end(self) -> str:
        return "" if self._track is None else "</trkseg></trk>\n"


FORMATS: dict[str, type[Jsonl] | type[Csv] | type[Geojson] | type[Gpx]] = {
    "jsonl": Jsonl,
    "csv": Csv,
    "geojson": Geojson,
    "gpx": Gpx,
}


def formatter(name: str) -> Formatter:
    """A new formatter for one export. Raises KeyError for a name that is not in FORMATS."""
    return FORMATS[name]()


def _csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _cell(text: str) -> str:
    """A spreadsheet runs a cell that begins so as a formula; our own ids cannot, other writers' rows can."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _degrees(e7: int) -> str:
    """Seven decimals, exactly."""
    whole, rest = divmod(abs(e7), 10_000_000)
    return f"{'-' if e7 < 0 else ''}{whole}.{rest:07d}"


def _xml_text(text: str) -> str:
    """XML 1.0 has no way to write most control characters; rows of other writers may hold them."""
    return "".join(c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "\ufffd" for c in text)
