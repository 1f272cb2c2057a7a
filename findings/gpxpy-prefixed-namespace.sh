#!/usr/bin/env bash
# gpxpy reads a GPX file whose elements have a namespace prefix as a file without tracks, and says nothing.
# Most expect the same points: to XML 1.0 namespaces, <g:trkpt> with xmlns:g="..." and <trkpt> with xmlns="..." are the
# same element. Needs python3 and PyPI. Exits with 0 while it is so, with 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check gpxpy==1.6.2
"$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version
from xml.etree import ElementTree

import gpxpy

PLAIN = """<?xml version="1.0"?>
<gpx version="1.1" creator="sample" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
<trkpt lat="1" lon="2"><time>2025-07-01T08:15:30Z</time></trkpt></trkseg></trk></gpx>"""
PREFIXED = """<?xml version="1.0"?>
<g:gpx version="1.1" creator="sample" xmlns:g="http://www.topografix.com/GPX/1/1"><g:trk><g:trkseg>
<g:trkpt lat="1" lon="2"><g:time>2025-07-01T08:15:30Z</g:time></g:trkpt></g:trkseg></g:trk></g:gpx>"""


def canonical(text):
    return ElementTree.canonicalize(text, rewrite_prefixes=True)


def points(text):
    return sum(len(segment.points) for track in gpxpy.parse(text).tracks for segment in track.segments)


assert canonical(PLAIN) == canonical(PREFIXED), "the same document, says canonical XML"
seen = points(PLAIN), points(PREFIXED)
print("gpxpy", version("gpxpy"))
print("expected: 1 point without and 1 point with the prefix, or an error")
print(f"seen:     {seen[0]} point without and {seen[1]} points with the prefix, no error")
sys.exit(seen != (1, 0))
PY
