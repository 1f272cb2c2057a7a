#!/usr/bin/env bash
# gpxpy gives a point whose <time> stands on a line of its own, as pretty-printers write it, no time, and says nothing.
# Most expect the time: <time> is an xsd:dateTime, of which XML Schema collapses white space before it reads the value;
# the validator xmlschema finds it valid. Needs python3 and PyPI. Exits with 0 while it is so, with 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check gpxpy==1.6.2 xmlschema==4.1.0
"$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import gpxpy
import xmlschema

SCHEMA = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="time" type="xs:dateTime"/></xs:schema>"""
ON_ITS_OWN_LINE = """<time>
  2025-07-01T08:15:30Z
</time>"""
GPX = """<?xml version="1.0"?>
<gpx version="1.1" creator="sample" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
<trkpt lat="1" lon="2">%s</trkpt></trkseg></trk></gpx>"""


def time(element):
    xmlschema.XMLSchema(SCHEMA).validate(element)
    return gpxpy.parse(GPX % element).tracks[0].segments[0].points[0].time


plain = time("<time>2025-07-01T08:15:30Z</time>")
seen = time(ON_ITS_OWN_LINE)
print("gpxpy", version("gpxpy"))
print(f"expected: {plain}, or an error")
print(f"seen:     {seen}, no error")
sys.exit(not (plain is not None and seen is None))
PY
