"""The formats of an export the plain way, a fix at a time: what the quick way must give, byte for byte."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from xml.sax.saxutils import escape

import msgspec

from actors.core.fix import STATUSES, Fix

MAX_POSITIONS = 100_000


def plain(name: str, fixes: Sequence[Fix]) -> bytes:
    return {"jsonl": _jsonl, "csv": _csv, "geojson": _geojson, "gpx": _gpx}[name](fixes)


def _jsonl(fixes: Sequence[Fix]) -> bytes:
    return b"".join(
        b'{"participant_id":%b,"race_id":%b,"latitude":%b,"longitude":%b,"timestamp":"%b","status":"%b"}\n'
        % (
            _json(fix.participant_id), _json(fix.race_id), _json(fix.lat_e7 / 1e7), _json(fix.lon_e7 / 1e7),
            _moment(fix.timestamp_ms).encode(), STATUSES[fix.status].encode(),
        )
        for fix in fixes
    )  # fmt: skip


def _csv(fixes: Sequence[Fix]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["participant_id", "race_id", "latitude", "longitude", "timestamp", "received_at", "status"])
    writer.writerows(
        [
            _cell(fix.participant_id), _cell(fix.race_id), _degrees(fix.lat_e7), _degrees(fix.lon_e7),
            _moment(fix.timestamp_ms), _moment(fix.arrived_ms), STATUSES[fix.status],
        ]
        for fix in fixes
    )  # fmt: skip
    return text.getvalue().encode()


def _geojson(fixes: Sequence[Fix]) -> bytes:
    features = []
    for track in _tracks(fixes):
        places = [b"[%b,%b]" % (_json(fix.lon_e7 / 1e7), _json(fix.lat_e7 / 1e7)) for fix in track]
        kind, shape = (b"LineString", b"[%b]" % b",".join(places)) if len(places) > 1 else (b"Point", places[0])
        last = track[-1]
        features.append(
            b'\n{"type":"Feature","geometry":{"type":"%b","coordinates":%b},'
            b'"properties":{"participantId":%b,"raceId":%b,"status":"%b","coordTimes":[%b]}}'
            % (
                kind, shape, _json(last.participant_id), _json(last.race_id), STATUSES[last.status].encode(),
                ",".join(f'"{_moment(fix.timestamp_ms)}"' for fix in track).encode(),
            )
        )  # fmt: skip
    return b'{"type":"FeatureCollection","features":[' + b",".join(features) + b"]}\n"


def _tracks(fixes: Sequence[Fix]) -> Iterator[list[Fix]]:
    track: list[Fix] = []
    for fix in fixes:
        if track and (
            (fix.race_id, fix.participant_id) != (track[-1].race_id, track[-1].participant_id)
            or abs(fix.lon_e7 - track[-1].lon_e7) > 1_800_000_000
            or len(track) == MAX_POSITIONS
        ):
            yield track
            track = []
        track.append(fix)
    if track:
        yield track


def _gpx(fixes: Sequence[Fix]) -> bytes:
    text = '<?xml version="1.0" encoding="UTF-8"?>\n'
    text += '<gpx version="1.1" creator="race-tracking" xmlns="http://www.topografix.com/GPX/1/1">\n'
    for track, points in groupby(fixes, key=lambda fix: (fix.race_id, fix.participant_id)):
        race, participant = (escape("".join(map(_xml, name))) for name in track)
        text += f"<trk><name>{participant}</name><desc>{race}</desc><trkseg>\n"
        for fix in points:
            longitude = _degrees(-1_800_000_000 if fix.lon_e7 == 1_800_000_000 else fix.lon_e7)
            text += (
                f'<trkpt lat="{_degrees(fix.lat_e7)}" lon="{longitude}">'
                f"<time>{_moment(fix.timestamp_ms)}</time><desc>{STATUSES[fix.status]}</desc></trkpt>\n"
            )
        text += "</trkseg></trk>\n"
    return (text + "</gpx>\n").encode()


def _json(value: str | float) -> bytes:
    return msgspec.json.encode(value)


def _cell(text: str) -> str:
    return "'" + text if text.startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")) else text


def _degrees(e7: int) -> str:
    whole, rest = divmod(abs(e7), 10_000_000)
    return f"{'-' if e7 < 0 else ''}{whole}.{rest:07d}"


def _moment(ms: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _xml(character: str) -> str:
    allowed = character in "\t\n\r" or (character >= " " and character not in "\ufffe\uffff")
    return character if allowed else "\ufffd"
