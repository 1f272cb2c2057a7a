"""Fixes as a file: jsonl (can be replayed), csv, geojson, gpx; in chunks, so that memory stays flat.

geojson and gpx hold a track a participant: give them fixes ordered by participant (`by_participant`), then time.
"""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Protocol
from xml.sax.saxutils import escape

import msgspec

from actors.core.fix import STATUSES, Fix
from actors.core.timestamps import format_ms

_json = msgspec.json.Encoder()

MAX_POSITIONS = 100_000  # of one feature: 0.8 MB of times kept, 2.7 MB written at its end
GPX_CREATOR = "race-tracking"  # by which `replay` knows that the names of tracks are participants
FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are the wide forms of the first
HALF_TURN_E7 = 1_800_000_000  # between two fixes nobody goes further than around half of the world


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
    """RFC 7946: a LineString a participant, its times in `coordTimes`; a single fix is a Point.

    A track goes on in a further feature where it crosses the antimeridian (section 3.1.9: else it would be drawn around
    the whole world), and after MAX_POSITIONS.
    """

    media_type = "application/geo+json"
    extension = "geojson"
    by_participant = True

    def __init__(self) -> None:
        self._last: Fix | None = None  # of the feature under way
        self._times = array("q")  # Unix ms of its fixes, at most MAX_POSITIONS: all that is kept
        self._features = 0

    def header(self) -> bytes:
        return b'{"type":"FeatureCollection","features":['

    def chunk(self, fixes: Sequence[Fix]) -> bytes:
        out = bytearray()
        for fix in fixes:
            if self._last is not None and not self._goes_on(self._last, fix):
                out += self._end()
            if self._last is not None:
                if len(self._times) == 1:
                    out += self._begin(b"LineString") + b"[" + _place(self._last)
                out += b"," + _place(fix)
            self._times.append(fix.timestamp_ms)
            self._last = fix
        return bytes(out)

    def footer(self) -> bytes:
        return self._end() + b"]}\n"

    def _goes_on(self, last: Fix, fix: Fix) -> bool:
        return (
            (fix.participant_id, fix.race_id) == (last.participant_id, last.race_id)
            and abs(fix.lon_e7 - last.lon_e7) <= HALF_TURN_E7
            and len(self._times) < MAX_POSITIONS
        )

    def _begin(self, kind: bytes) -> bytes:
        comma = b",\n" if self._features else b"\n"
        self._features += 1
        return comma + b'{"type":"Feature","geometry":{"type":"%b","coordinates":' % kind

    def _end(self) -> bytes:
        last = self._last
        if last is None:
            return b""
        # A LineString needs two positions (RFC 7946 section 3.1.4).
        shape = self._begin(b"Point") + _place(last) if len(self._times) == 1 else b"]"
        times = ",".join(f'"{format_ms(time_ms)}"' for time_ms in self._times).encode()
        self._last, self._times = None, array("q")
        return shape + b'},"properties":{"participantId":%b,"raceId":%b,"status":"%b","coordTimes":[%b]}}' % (
            _json.encode(last.participant_id),
            _json.encode(last.race_id),
            STATUSES[last.status].encode(),
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
            b'<gpx version="1.1" creator="%b" xmlns="http://www.topografix.com/GPX/1/1">\n' % GPX_CREATOR.encode()
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
                f'<trkpt lat="{_degrees(fix.lat_e7)}" lon="{_degrees(_west_of_180(fix.lon_e7))}">'
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
    return "'" + text if text.startswith(FORMULA_STARTS) else text


def _place(fix: Fix) -> bytes:
    return b"[%b,%b]" % (_json.encode(fix.lon_e7 / 1e7), _json.encode(fix.lat_e7 / 1e7))


def _west_of_180(lon_e7: int) -> int:
    """GPX 1.1 has no longitude 180: it is -180 there."""
    return -HALF_TURN_E7 if lon_e7 == HALF_TURN_E7 else lon_e7


def _degrees(e7: int) -> str:
    """Seven decimals, exactly."""
    whole, rest = divmod(abs(e7), 10_000_000)
    return f"{'-' if e7 < 0 else ''}{whole}.{rest:07d}"


def _xml_text(text: str) -> str:
    """XML 1.0 has no way to write most control characters; rows of other writers may hold them."""
    return "".join(c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "\ufffd" for c in text)
