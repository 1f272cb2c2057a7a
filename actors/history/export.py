"""Fixes as a file: jsonl (can be replayed), csv, geojson, gpx; in chunks, so that memory stays flat.

geojson and gpx hold a track a participant: give them fixes ordered by participant (`by_participant`), then time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Protocol
from xml.sax.saxutils import escape

import msgspec

from actors.core.fix import STATUSES, Fix
from actors.core.timestamps import format_ms

_json = msgspec.json.Encoder()

MAX_POSITIONS = 100_000  # of one feature: 2.7 MB of times kept, written at its end
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


class _Line(msgspec.Struct, frozen=True, gc=False):
    participant_id: str
    race_id: str
    latitude: float
    longitude: float
    timestamp: str
    status: str


class Jsonl:
    """A line a fix, in the form in which trackers send it."""

    media_type = "application/x-ndjson"
    extension = "jsonl"
    by_participant = False

    def header(self) -> bytes:
        return b""

    def chunk(self, fixes: Sequence[Fix]) -> bytes:
        return _json.encode_lines(
            [
                _Line(
                    fix.participant_id,
                    fix.race_id,
                    fix.lat_e7 / 1e7,
                    fix.lon_e7 / 1e7,
                    format_ms(fix.timestamp_ms),
                    STATUSES[fix.status],
                )
                for fix in fixes
            ]
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
        return (",".join(names) + "\r\n").encode()

    def chunk(self, fixes: Sequence[Fix]) -> bytes:
        return "".join(
            [
                f"{_cell(fix.participant_id)},{_cell(fix.race_id)},"
                f"{fix.lat_e7 / 1e7:.7f},{fix.lon_e7 / 1e7:.7f},"
                f"{format_ms(fix.timestamp_ms)},{format_ms(fix.arrived_ms)},{STATUSES[fix.status]}\r\n"
                for fix in fixes
            ]
        ).encode()

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
        self._positions = 0  # of it, at most MAX_POSITIONS
        self._first = b""  # of its positions, until there is a second one
        self._times = bytearray()  # of its fixes, as text, each with a comma behind it
        self._features = 0

    def header(self) -> bytes:
        return b'{"type":"FeatureCollection","features":['

    def chunk(self, fixes: Sequence[Fix]) -> bytes:
        out = bytearray()
        start, last, room = 0, self._last, MAX_POSITIONS - self._positions
        for at, fix in enumerate(fixes):
            if last is not None and (
                fix.participant_id != last.participant_id
                or fix.race_id != last.race_id
                or abs(fix.lon_e7 - last.lon_e7) > HALF_TURN_E7
                or at - start == room
            ):
                out += self._go_on(fixes[start:at]) + self._end()
                start, room = at, MAX_POSITIONS
            last = fix
        return bytes(out + self._go_on(fixes[start:]))

    def footer(self) -> bytes:
        return self._end() + b"]}\n"

    def _go_on(self, fixes: Sequence[Fix]) -> bytes:
        if not fixes:
            return b""
        places = _json.encode([(fix.lon_e7 / 1e7, fix.lat_e7 / 1e7) for fix in fixes])[1:-1]
        self._times += ('"' + '","'.join([format_ms(fix.timestamp_ms) for fix in fixes]) + '",').encode()
        before, self._positions, self._last = self._positions, self._positions + len(fixes), fixes[-1]
        if before > 1:
            return b"," + places
        places = b",".join([self._first, places]) if before else places
        if self._positions == 1:
            self._first = places
            return b""
        return self._begin(b"LineString") + b"[" + places

    def _begin(self, kind: bytes) -> bytes:
        comma = b",\n" if self._features else b"\n"
        self._features += 1
        return comma + b'{"type":"Feature","geometry":{"type":"%b","coordinates":' % kind

    def _end(self) -> bytes:
        last = self._last
        if last is None:
            return b""
        # A LineString needs two positions (RFC 7946 section 3.1.4).
        shape = b"]" if self._positions > 1 else self._begin(b"Point") + self._first
        times = bytes(self._times[:-1])
        self._last, self._positions, self._times = None, 0, bytearray()
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
            for fix in points:
                lon_e7 = fix.lon_e7 if fix.lon_e7 != HALF_TURN_E7 else -HALF_TURN_E7  # it has no longitude 180
                out.append(
                    f'<trkpt lat="{fix.lat_e7 / 1e7:.7f}" lon="{lon_e7 / 1e7:.7f}">'
                    f"<time>{format_ms(fix.timestamp_ms)}</time><desc>{STATUSES[fix.status]}</desc></trkpt>\n"
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


@lru_cache(maxsize=4096)  # names repeat
def _cell(text: str) -> str:
    """A name between the commas of a line.

    A spreadsheet runs a cell that begins so as a formula; our own ids cannot, other writers' rows can.
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(["'" + text if text.startswith(FORMULA_STARTS) else text, ""])
    return line.getvalue().removesuffix(",\r\n")


def _xml_text(text: str) -> str:
    """XML 1.0 has no way to write most control characters; rows of other writers may hold them."""
    return "".join(c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "\ufffd" for c in text)
