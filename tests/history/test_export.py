"""Every export format, however the fixes are cut into chunks, read back by a parser that is not ours."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import pairwise

import gpxpy
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.fix import STATUSES, Fix
from actors.core.timestamps import LATEST_MS, format_ms
from actors.history.export import FORMATS, formatter
from actors.ingest.validate import Rules, validate
from tests.history.plain_export import plain
from tests.kit.making import BASE_MS, make_fix

TRACKS = [make_fix(participant, n, lat=n / 7, lon=-n / 3, status=n % 4, arrived_s=n + 0.5)
          for participant, count in (("P1", 5), ("P2", 1), ("P3", 2), ("Zoë", 3)) for n in range(count)]  # fmt: skip


def exported(name: str, fixes: Sequence[Fix], size: int = 1000) -> bytes:
    chosen = formatter(name)
    chunks = [chosen.chunk(fixes[start : start + size]) for start in range(0, len(fixes), size)]
    return b"".join([chosen.header(), *chunks, chosen.footer()])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("fixes", [TRACKS, TRACKS[:1], TRACKS[:5], TRACKS[5:6], []])
def test_chunks_of_any_size_give_the_same_file(name: str, fixes: list[Fix]) -> None:
    whole = exported(name, fixes)
    assert all(exported(name, fixes, size) == whole for size in (1, 2, 3, 5))


NAMES = st.sampled_from(["P1", "P2", "Zoë", 'a,"b"', "<&]]>", "=1", "\uff20", "", " ", "\r\n", "\\", "\x7f\u2028"]) | (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
)
DEGREES_E7 = (
    st.integers(-(10**10) + 1, 10**10 - 1)  # what numeric(10, 7) holds
    | st.integers(-2000, 2000)
    | st.sampled_from([each + off for each in (-1_800_000_000, 1_800_000_000, 900_000_000) for off in (-1, 0, 1)])
)
MOMENTS_MS = st.integers(-62_135_596_800_000, LATEST_MS) | st.sampled_from([0, -1, 999, -1000, BASE_MS])
FIXES = st.builds(
    Fix, race_id=NAMES, participant_id=NAMES, lat_e7=DEGREES_E7, lon_e7=DEGREES_E7, timestamp_ms=MOMENTS_MS,
    status=st.integers(0, 3), arrived_ms=MOMENTS_MS, id=st.just(bytes(16)),
)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@given(st.lists(FIXES, max_size=8), st.integers(1, 3), st.integers(1, 3))
def test_the_quick_way_gives_what_the_plain_way_does(name: str, fixes: list[Fix], times: int, size: int) -> None:
    fixes = [fix for fix in fixes for _ in range(times)]
    assert exported(name, fixes, size) == plain(name, fixes)


def test_an_empty_chunk_adds_nothing() -> None:
    assert all(formatter(name).chunk([]) == b"" for name in FORMATS)


@given(st.integers(-900_000_000, 900_000_000), st.integers(-1_800_000_000, 1_800_000_000), st.integers(0, 10**12))
def test_jsonl_is_what_a_tracker_sends(lat_e7: int, lon_e7: int, after_ms: int) -> None:
    fix = make_fix()
    fix = msgspec.structs.replace(fix, lat_e7=lat_e7, lon_e7=lon_e7 or 1, timestamp_ms=BASE_MS + after_ms, status=2)
    (line,) = exported("jsonl", [fix]).splitlines()
    (again,), rejections = validate(b"t", line, fix.timestamp_ms, Rules(max_payload_bytes=1000))
    assert rejections == []
    assert (again.race_id, again.participant_id, again.status) == (fix.race_id, fix.participant_id, fix.status)
    assert (again.lat_e7, again.lon_e7, again.timestamp_ms) == (fix.lat_e7, fix.lon_e7, fix.timestamp_ms)


def test_jsonl_has_a_line_a_fix() -> None:
    assert json.loads(exported("jsonl", TRACKS).splitlines()[1]) == {
        "participant_id": "P1", "race_id": "R1", "latitude": 0.1428571, "longitude": -0.3333333,
        "timestamp": "2025-07-01T08:15:31.000Z", "status": "stopped",
    }  # fmt: skip
    assert len(exported("jsonl", TRACKS).splitlines()) == len(TRACKS)


def test_csv_has_a_header_and_exact_decimals() -> None:
    text = exported("csv", TRACKS).decode()
    assert text.count("\r\n") == len(TRACKS) + 1
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows[1] == {
        "participant_id": "P1", "race_id": "R1", "latitude": "0.1428571", "longitude": "-0.3333333",
        "timestamp": "2025-07-01T08:15:31.000Z", "received_at": "2025-07-01T08:15:31.500Z", "status": "stopped",
    }  # fmt: skip
    smallest = exported("csv", [msgspec.structs.replace(make_fix(), lat_e7=-1, lon_e7=1_800_000_000)]).decode()
    assert ",-0.0000001,180.0000000," in smallest


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x"]
)
def test_csv_cells_are_no_formulas(name: str) -> None:
    fix = msgspec.structs.replace(make_fix(), participant_id=name, lat_e7=-5)
    (row,) = csv.DictReader(io.StringIO(exported("csv", [fix]).decode(), newline=""))
    assert row["participant_id"] == "'" + name
    assert row["latitude"] == "-0.0000005"


def test_csv_quotes_what_needs_it() -> None:
    name = 'a,"b"\nc'
    fix = msgspec.structs.replace(make_fix(), participant_id=name)
    (row,) = csv.DictReader(io.StringIO(exported("csv", [fix]).decode(), newline=""))
    assert row["participant_id"] == name


def test_geojson_is_a_feature_a_participant() -> None:
    document = json.loads(exported("geojson", TRACKS, 2))
    assert document["type"] == "FeatureCollection"
    shapes = [(feature["properties"]["participantId"], feature["geometry"]["type"]) for feature in document["features"]]
    assert shapes == [("P1", "LineString"), ("P2", "Point"), ("P3", "LineString"), ("Zoë", "LineString")]
    for feature in document["features"]:
        properties, coordinates = feature["properties"], feature["geometry"]["coordinates"]
        fixes = [fix for fix in TRACKS if fix.participant_id == properties["participantId"]]
        expected = [[fix.lon_e7 / 1e7, fix.lat_e7 / 1e7] for fix in fixes]
        assert coordinates == (expected if len(fixes) > 1 else expected[0])
        assert len(properties["coordTimes"]) == len(fixes)
        assert properties["coordTimes"][0] == "2025-07-01T08:15:30.000Z"
        assert properties["status"] == STATUSES[fixes[-1].status]
    assert json.loads(exported("geojson", [])) == {"type": "FeatureCollection", "features": []}


def test_geojson_is_cut_at_the_antimeridian() -> None:
    east = [make_fix("P1", n, lat=0.0, lon=lon) for n, lon in enumerate([179.8, 179.9, 180, -180, -179.9, 179.9])]
    features = json.loads(exported("geojson", east))["features"]
    assert [feature["geometry"]["coordinates"] for feature in features] == [
        [[179.8, 0.0], [179.9, 0.0], [180.0, 0.0]], [[-180.0, 0.0], [-179.9, 0.0]], [179.9, 0.0],
    ]  # fmt: skip
    assert [len(feature["properties"]["coordTimes"]) for feature in features] == [3, 2, 1]


def test_geojson_keeps_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.history.export.MAX_POSITIONS", 4)
    features = json.loads(exported("geojson", [make_fix("P1", n) for n in range(10)]))["features"]
    assert [len(feature["properties"]["coordTimes"]) for feature in features] == [4, 4, 2]
    times = [time for feature in features for time in feature["properties"]["coordTimes"]]
    assert times == sorted(set(times))


@given(st.lists(st.tuples(st.sampled_from(["P1", "P2"]), st.integers(-1_800_000_000, 1_800_000_000)), max_size=20))
def test_geojson_is_as_rfc_7946_has_it(places: list[tuple[str, int]]) -> None:
    fixes = [
        msgspec.structs.replace(make_fix(who, n, lat=0.0), lon_e7=lon) for n, (who, lon) in enumerate(sorted(places))
    ]
    found: list[tuple[str, list[float], str]] = []
    for feature in json.loads(exported("geojson", fixes, 3))["features"]:
        assert set(feature) == {"type", "geometry", "properties"}
        line = feature["geometry"]["coordinates"]
        if feature["geometry"]["type"] == "Point":
            line = [line]
        else:
            assert feature["geometry"]["type"] == "LineString"
            assert len(line) >= 2
        assert all(abs(a[0] - b[0]) <= 180 for a, b in pairwise(line))
        properties = feature["properties"]
        found += [
            (properties["participantId"], place, time)
            for place, time in zip(line, properties["coordTimes"], strict=True)
        ]
    assert found == [(fix.participant_id, [fix.lon_e7 / 1e7, 0.0], format_ms(fix.timestamp_ms)) for fix in fixes]


GPX = "{http://www.topografix.com/GPX/1/1}"
GPX_CHILDREN = {  # GPX 1.1: an xsd:sequence each, so the order counts
    "gpx": ["metadata", "wpt", "rte", "trk", "extensions"],
    "trk": ["name", "cmt", "desc", "src", "link", "number", "type", "extensions", "trkseg"],
    "trkseg": ["trkpt", "extensions"],
    "trkpt": ["ele", "time", "magvar", "geoidheight", "name", "cmt", "desc", "src", "link", "sym", "type", "fix",
              "sat", "hdop", "vdop", "pdop", "ageofdgpsdata", "dgpsid", "extensions"],
}  # fmt: skip
GPX_MANY = {"trk", "trkseg", "trkpt"}
XSD_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")


def check_gpx(element: ET.Element) -> None:
    """The rules of the GPX 1.1 schema for what is used here."""
    tag = element.tag.removeprefix(GPX)
    names = [child.tag.removeprefix(GPX) for child in element]
    order = [GPX_CHILDREN.get(tag, []).index(name) for name in names]
    assert order == sorted(order), f"{tag} has {names}"
    assert {name for name in names if names.count(name) > 1} <= GPX_MANY
    allowed = {"gpx": {"version", "creator"}, "trkpt": {"lat", "lon"}}.get(tag, set())
    assert set(element.attrib) == allowed
    if tag == "gpx":
        assert element.get("version") == "1.1"
    if tag == "trkpt":
        assert -90 <= float(element.get("lat", "")) <= 90
        assert -180 <= float(element.get("lon", "")) < 180  # 180 itself is not allowed
    if tag == "time":
        assert XSD_DATE_TIME.fullmatch(element.text or "")
    if names or tag in ("gpx", "trk", "trkseg"):
        assert not (element.text or "").strip(), "no text beside elements"
    for child in element:
        assert child.tag.startswith(GPX)
        check_gpx(child)


def test_gpx_keeps_the_rules_of_its_schema() -> None:
    corners = [make_fix("P9", n, lat=lat, lon=lon) for n, (lat, lon) in enumerate([(90, 180), (-90, -180), (0, 179.9)])]
    for fixes in (TRACKS, [*TRACKS, *corners], []):
        check_gpx(ET.fromstring(exported("gpx", fixes, 2)))
    points = gpxpy.parse(exported("gpx", corners).decode()).tracks[0].segments[0].points
    assert [(point.latitude, point.longitude) for point in points] == [(90, -180), (-90, -180), (0, 179.9)]


def test_gpx_is_a_track_a_participant() -> None:
    document = gpxpy.parse(exported("gpx", TRACKS, 2).decode())
    assert [track.name for track in document.tracks] == ["P1", "P2", "P3", "Zoë"]
    for track in document.tracks:
        fixes = [fix for fix in TRACKS if fix.participant_id == track.name]
        (segment,) = track.segments
        points = [(point.latitude, point.longitude) for point in segment.points]
        assert points == [(fix.lat_e7 / 1e7, fix.lon_e7 / 1e7) for fix in fixes]
        times = [round(point.time.timestamp() * 1000) for point in segment.points if point.time is not None]
        assert times == [fix.timestamp_ms for fix in fixes]
    assert gpxpy.parse(exported("gpx", []).decode()).tracks == []


def test_gpx_survives_names_that_are_no_xml() -> None:
    fix = msgspec.structs.replace(make_fix(), participant_id="<&]]>\0\x1b\uffff", race_id="&amp;")
    root = ET.fromstring(exported("gpx", [fix]))
    space = "{http://www.topografix.com/GPX/1/1}"
    assert root.findtext(f".//{space}trk/{space}name") == "<&]]>\ufffd\ufffd\ufffd"
    assert root.findtext(f".//{space}trk/{space}desc") == "&amp;"
    assert root.get("version") == "1.1"


def test_formats_say_what_they_are() -> None:
    assert {name: (form.media_type, form.extension) for name, form in FORMATS.items()} == {
        "jsonl": ("application/x-ndjson", "jsonl"), "csv": ("text/csv", "csv"),
        "geojson": ("application/geo+json", "geojson"), "gpx": ("application/gpx+xml", "gpx"),
    }  # fmt: skip
    assert [name for name, form in FORMATS.items() if form.by_participant] == ["geojson", "gpx"]
