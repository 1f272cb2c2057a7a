"""GPX as devices write it: what reading gives, before anything is judged."""

from __future__ import annotations

import codecs
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.recordings import gpx
from actors.recordings.points import CutOff, Point, UnreadableRecording

TIMES = ("2025-07-01T08:15:30Z", "2025-07-01T08:15:31Z")
POINTS = "".join(f'<trkpt lat="{n}.5" lon="-{n}"><time>{time}</time></trkpt>\n' for n, time in enumerate(TIMES, 1))
PLAIN = f"<gpx version='1.1'><trk><name>Köln</name><trkseg>{POINTS}</trkseg></trk></gpx>"
EXPECTED = [("1.5", "-1", TIMES[0]), ("2.5", "-2", TIMES[1])]
DECLARED = '<?xml version="1.0" encoding="%s"?>\n' + PLAIN


def pieces(data: bytes, size: int = 7) -> Iterator[bytes]:
    yield from (data[at : at + size] for at in range(0, len(data), size))


def read(data: str | bytes, size: int = 100_000) -> list[Point]:
    return list(gpx.read(pieces(data.encode() if isinstance(data, str) else data, size)))


def places(data: str | bytes, size: int = 100_000) -> list[Any]:
    return [(point.latitude, point.longitude, point.time) for point in read(data, size)]


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        DECLARED % "UTF-8",
        "\ufeff" + DECLARED % "UTF-8",
        " " * 10 + DECLARED % "UTF-8",
        "\ufeff\r\n\t " + DECLARED % "UTF-8",
        " \n\ufeff" + DECLARED % "UTF-8",
        "\n" * 60_000 + DECLARED % "UTF-8",
        (" " * 60_000 + DECLARED % "ISO-8859-1").encode("latin-1"),
        ("\n" * 5000 + DECLARED % "UTF-16").encode("utf-16"),
        "<!-- a route of mine -->\n" + DECLARED % "UTF-8",
        "HTTP/1.1 200 OK\r\n\r\n" + DECLARED % "UTF-8",
        (DECLARED % "ISO-8859-1").encode("latin-1"),
        (DECLARED % "windows-1252").replace("ö", "€").encode("cp1252"),
        (DECLARED % "UTF-16").encode("utf-16"),
        ("  " + DECLARED % "UTF-16").encode("utf-16-le"),
        (DECLARED % "UTF-16").encode("utf-16-be"),
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        (DECLARED % "UTF-32").encode("utf-32"),
        (DECLARED % "shift_jis").replace("ö", "ルート").encode("shift_jis"),
        # What the declaration says is not true, or is nothing: the points are ASCII all the same.
        DECLARED % "UTF-16",
        (DECLARED % "UTF-8").encode("latin-1"),
        DECLARED % "x-nothing",
        DECLARED % "base64",
        DECLARED % "idna",
        DECLARED.replace("1.0", "1.1") % "UTF-8",
    ],
)
def test_encodings(data: str | bytes) -> None:
    for size in (100_000, 1, 7):
        assert places(data, size) == EXPECTED


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.replace("<gpx", '<gpx xmlns="http://www.topografix.com/GPX/1/0"'),
        PLAIN.replace("</", "</g:")
        .replace("<", "<g:")
        .replace("<g:/g:", "</g:")
        .replace("<g:gpx", '<g:gpx xmlns:g="x"'),
        PLAIN.replace("</time>", "</time><extensions><gpxdata:hr>93</gpxdata:hr></extensions>"),
        PLAIN.replace("</time>", "</time><fix>unknown</fix><sat>7.0</sat><ele>no</ele>"),
        PLAIN.replace("</time>", "</time><extensions><a:time>2001-01-01T00:00:00Z</a:time></extensions>"),
        PLAIN.replace("<time>", "<ext><time>2001-01-01T00:00:00Z</time></ext><time>"),
        PLAIN.replace("<time>", "<time><![CDATA[").replace("</time>", "]]></time>"),
        PLAIN.replace("<time>2025", "<time>20<!-- about -->25"),
        PLAIN.replace("<trk>", '<wpt lat="1" lon="2"><time>2025-07-01T08:00:00Z</time></wpt><trk>'),
        PLAIN.replace("<trk>", "<metadata><time>1970-01-01T00:00:00Z</time></metadata><trk>"),
        PLAIN.replace("</trkpt>\n<trkpt", "</trkpt></trkseg><trkseg></trkseg></trk><trk><trkseg><trkpt"),
        PLAIN.replace("<gpx", '<!DOCTYPE gpx SYSTEM "http://127.0.0.1:1/gpx.dtd"><gpx').replace("Köln", "&other;"),
        PLAIN + "\n<!-- the end -->\n",
        PLAIN + "\0" * 4096,
    ],
    ids=[
        *("1.0", "prefix", "no-such-prefix", "values", "time-of-an-extension", "time-deeper", "cdata", "comment"),
        *("waypoint", "metadata", "segments", "doctype", "comment-after", "nulls-after"),
    ],
)
def test_forms(data: str) -> None:
    for size in (100_000, 1, 5):
        assert places(data, size) == EXPECTED


@pytest.mark.parametrize(
    "title",
    [
        *("Tom & Jerry", "R&D;", "a&nbsp;b", "&", "&&amp;", "&#;&#x;&lt &amp", "&#1;&#x0;", "&#xD83D;&#xDE00;"),
        *("&#1114112;&#xFFFFFF;&#99999999;", "a\x0bb\x1f\ufffe", "&lt;&#x1F600;&#65;&apos;"),
    ],
)
def test_what_xml_does_not_allow_in_a_title_costs_no_point(title: str) -> None:
    for size in (100_000, 1, 5):
        assert places(PLAIN.replace("Köln", title), size) == EXPECTED


def test_references_mean_what_they_mean() -> None:
    data = PLAIN.replace("<gpx", "<gpx creator='race-tracking'").replace("Köln", "&lt;&#x1F600;&amp;&#65;&quot; & &#1;")
    for size in (100_000, 1):
        assert {point.participant for point in read(data, size)} == {'<\U0001f600&A" & &#1;'}


def test_a_point_is_what_stands_there() -> None:
    data = """<gpx>
      <rte><rtept lat="1" lon="2"><time>2025-07-01T08:15:30Z</time></rtept></rte>
      <trk><trkseg><trkpt lon="undefined"/>
      <trkpt lat="NaN" lon="200" ><time>
        yesterday </time></trkpt>
      <trkpt lat="1" lon="2"><time></time></trkpt></trkseg></trk></gpx>"""
    assert read(data) == [
        Point(2, "1", "2", "2025-07-01T08:15:30Z", planned=True),
        Point(3, None, "undefined", None),
        Point(4, "NaN", "200", "yesterday "),
        Point(6, "1", "2", ""),
    ]


def test_what_is_kept_of_a_time_is_bounded() -> None:
    (point,) = read(f"<gpx><trkpt><time>{'x' * 100_000}</time></trkpt></gpx>")
    assert point.time == "x" * gpx.MAX_TEXT


def test_the_line_is_that_of_the_file() -> None:
    assert [point.line for point in read("\n\n \n" + DECLARED % "UTF-8")] == [5, 6]


def test_names_of_tracks_are_participants_only_in_a_file_of_ours() -> None:
    two = PLAIN.replace("</trkpt>\n<trkpt", "</trkpt></trkseg></trk><trk><trkseg><trkpt")
    assert [point.participant for point in read(two)] == [None, None]
    ours = two.replace("<gpx", "<gpx creator='race-tracking'")
    assert [point.participant for point in read(ours)] == ["Köln", ""]


@pytest.mark.parametrize("size", [100_000, 1])
@pytest.mark.parametrize("end", ["</trk", "<time>2025", '<trkpt lat="1" lo', "<!-- x", "<![CDATA[x", "&am", "\0\0", ""])
def test_a_file_that_is_cut_gives_its_whole_points(end: str, size: int) -> None:
    for encoding in ("UTF-8", "UTF-16"):
        reading = gpx.read(pieces((f"<gpx><trk>\n<trkseg>{POINTS}" + end).encode(encoding), size))
        found = [next(reading), next(reading)]
        assert [(point.latitude, point.longitude, point.time) for point in found] == EXPECTED
        with pytest.raises(CutOff, match="it ends in line 4, before its end"):
            next(reading)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "line 1: no element found"),
        ("  \n ", "line 2: no element found"),
        ("no xml", "line 1: syntax error"),
        (PLAIN.replace("</trkseg>", "</trk>"), "line 3: mismatched tag"),
        ("<gpx>\n\n<name>a < b</name></gpx>", r"line 3: not well-formed \(invalid token\)"),
        (PLAIN + "\0\0\0" + PLAIN, r"line 3: not well-formed \(invalid token\)"),
        (PLAIN + "\n" + PLAIN, "line 4: junk after document element"),
        ("<html><gpx></gpx></html>", "line 1: its root is <html>, not <gpx>"),
        ("\n<g:kml/>", "line 2: its root is <g:kml>, not <gpx>"),
    ],
)
def test_what_is_no_gpx_is_told_with_its_line(data: str, why: str) -> None:
    for size in (100_000, 1):
        with pytest.raises(UnreadableRecording, match=why):
            read(data, size)


@pytest.mark.parametrize(
    "declared",
    [
        '<!ENTITY a "b">',
        '<!ENTITY % a "b">',
        '<!ENTITY a SYSTEM "file:///dev/null">',
        '<!ENTITY % a SYSTEM "http://127.0.0.1:1/">',
    ],
)
def test_entities_are_refused_where_they_are_declared(declared: str) -> None:
    with pytest.raises(UnreadableRecording, match="line 2: it declares an entity"):
        read(f"<!DOCTYPE gpx [\n{declared}]>{PLAIN.replace('Köln', '&a;')}")


def test_nothing_is_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/gpx.dtd"
        assert places(f'<!DOCTYPE gpx SYSTEM "{url}">{PLAIN}') == EXPECTED
        with pytest.raises(BlockingIOError):
            server.accept()


@given(st.data())
def test_whatever_is_damaged_is_points_or_a_line(data: st.DataObject) -> None:
    damaged = bytearray((DECLARED % "UTF-8").encode())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=3))
    reading = gpx.read(pieces(bytes(damaged), data.draw(st.integers(1, 200))))
    try:
        list(reading)
    except CutOff as cut:
        said = str(cut)
    except UnreadableRecording as broken:
        said = str(broken)
    else:
        said = "line"
    assert "line" in said
