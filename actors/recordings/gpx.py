"""GPX (1.0, 1.1, and what devices take for it) -> points.

A reader of its own, because files of devices are not what the schema says: the libraries refuse a whole file for one
bad value in a field that nobody needs, and give points without a time, or none, where the XML is fine but unusual.
Expat is told nothing of namespaces: a prefix is cut off, declared or not. Nothing is ever fetched, no entity is
declared. 108,000 points (25 MB) are read in 0.5 s and no memory to speak of; by gpxpy 1.6.2 in 2.3 s and 280 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.parsers import expat

from actors.history.export import GPX_CREATOR
from actors.recordings.points import CutOff, Point, UnreadableRecording
from actors.recordings.xml_text import xml_text

MAX_TEXT = 200  # characters that are kept of a time or a name

_POINTS = {"trkpt", "rtept"}
_EARLY_ENDS = {
    expat.errors.codes[message]
    for message in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
}


def read(chunks: Iterable[bytes]) -> Iterator[Point]:
    """The points of tracks and routes, in the order of the file; a Reader."""
    reading = _Reading()
    for text in xml_text(chunks):
        reading.take(text)
        yield from reading.points
        reading.points.clear()
    reading.finish()


class _Reading:
    """One file under way."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.EntityDeclHandler = self._refuse_entity
        self._depth = 0
        self._point_depth = 0  # of the point that is open; 0: none is
        self._line = 0
        self._place: dict[str, str] = {}  # attributes of that point
        self._time: str | None = None
        self._is_ours = False
        self._track: str | None = None  # the participant, in a file that `export` has written
        self._text = ""

    def take(self, text: str) -> None:
        """The next piece. Raises UnreadableRecording."""
        try:
            self._parser.Parse(text, False)
        except expat.ExpatError as error:
            raise self._broken(error) from None

    def finish(self) -> None:
        """There is no more. Raises UnreadableRecording, CutOff."""
        try:
            self._parser.Parse("", True)
        except expat.ExpatError as error:
            if error.code in _EARLY_ENDS and self._depth:
                raise CutOff(f"it ends in line {error.lineno:,}, before its end") from None
            raise self._broken(error) from None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        local = name.rpartition(":")[2]
        if self._point_depth:
            if local == "time" and self._depth == self._point_depth + 1:  # not one of its extensions
                self._collect_text()
        elif local in _POINTS:
            self._point_depth = self._depth
            self._line = self._parser.CurrentLineNumber
            self._place = attributes
            self._time = None
        elif self._depth == 1:
            if local != "gpx":
                raise UnreadableRecording(f"line {self._parser.CurrentLineNumber:,}: its root is <{name}>, not <gpx>")
            self._is_ours = attributes.get("creator") == GPX_CREATOR
        elif self._is_ours and self._depth == 3 and local == "name":
            self._collect_text()

    def _end(self, name: str) -> None:
        if self._parser.CharacterDataHandler is not None:
            self._parser.CharacterDataHandler = None
            if self._point_depth:
                self._time = self._text
            else:
                self._track = self._text
        elif self._depth == self._point_depth:
            self._point_depth = 0
            place = self._place
            planned = name.endswith("rtept")
            owner = self._track or "" if self._is_ours else None
            self.points.append(Point(self._line, place.get("lat"), place.get("lon"), self._time, planned, owner))
        elif self._depth == 2:
            self._track = None
        self._depth -= 1

    def _collect_text(self) -> None:
        self._text = ""
        self._parser.CharacterDataHandler = self._collect

    def _collect(self, text: str) -> None:
        self._text = (self._text + text).lstrip()[:MAX_TEXT]

    def _refuse_entity(self, *_declaration: object) -> None:
        line = self._parser.CurrentLineNumber
        raise UnreadableRecording(f"line {line:,}: it declares an entity, which no recording needs: refused")

    def _broken(self, error: expat.ExpatError) -> UnreadableRecording:
        return UnreadableRecording(f"line {error.lineno:,}: {expat.ErrorString(error.code)}")
