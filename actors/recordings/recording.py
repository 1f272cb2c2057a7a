"""A file of any kind, and what of it is wanted -> messages."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from datetime import tzinfo
from itertools import chain
from pathlib import Path

import attrs

from actors.core.file_name import as_text
from actors.core.fix import Fix
from actors.core.ids import ID_RULE, normal_id
from actors.core.rejection import payload_of
from actors.core.timestamps import LATEST_MS
from actors.recordings import gpx
from actors.recordings.judging import Judge
from actors.recordings.lines import Lines
from actors.recordings.points import CutOff, Point, PointAccount, Reader, Recorded, UnreadableRecording, WrongUse
from actors.recordings.source import kind_of, opened, unpacked_name

READERS: dict[str, Reader] = {"GPX": gpx.read}


@attrs.frozen
class Recording:
    """JSON lines say whose every fix is, and in which race; points are of one race and one participant."""

    path: Path
    race: str | None = None  # in NFC. JSON lines: only this one; else the points' race
    participant: str | None = None  # the same
    zone: tzinfo | None = None  # of the times of points that have none
    max_payload_bytes: int = 262_144  # of a message

    def read(self, tally: PointAccount, shift_ms: int = 0, latest_ms: int = LATEST_MS) -> Iterator[Recorded]:
        """What can be published, in the order of the file, moved by `shift_ms` and then not later than `latest_ms`.

        Everything else is told to `tally`. Raises UnreadableRecording, WrongUse.
        """
        if not self.path.exists() and kind_of(b"", self.path.name) is None:
            raise WrongUse(f"{self.path}: there is no such file, and none of that name would be a recording")
        with opened(self.path) as pieces:
            try:
                head = next(pieces, b"")
                kind = kind_of(head, self.path.name)
                whole = chain([head], pieces)
                if kind in READERS:
                    yield from self._points(kind, whole, tally, shift_ms, latest_ms)
                elif kind is not None:
                    lines = Lines(self.race, self.participant, self.max_payload_bytes, shift_ms, latest_ms)
                    yield from lines.read(whole, tally)
                else:
                    raise WrongUse(f"{self.path}: its content is none that is known: GPX, JSON lines; or gzip of them")
            except CutOff as cut:
                tally.cut = str(cut)

    def _points(
        self, kind: str, pieces: Iterable[bytes], tally: PointAccount, shift_ms: int, latest_ms: int
    ) -> Iterator[Recorded]:
        judge: Judge | None = None
        try:
            for point in READERS[kind](pieces):
                if judge is None:
                    judge = Judge(*self._ids(point), self.zone, shift_ms, latest_ms)
                if not self._is_wanted(point):
                    continue
                tally.read += 1
                found = judge.judge(point)
                if isinstance(found, Fix):
                    if tally.first_ms is None:
                        tally.first_ms = found.timestamp_ms - shift_ms
                    yield Recorded(found.participant_id, found.race_id, found.timestamp_ms, payload_of(found))
                else:
                    tally.leave_out(found, point.line)
        except UnreadableRecording as error:
            raise UnreadableRecording(f"{self.path}: not valid {kind}: {error}") from None

    def _is_wanted(self, point: Point) -> bool:
        """A file of ours has many participants, and --participant chooses among them."""
        if self.participant is None or point.participant is None:
            return True
        return self.participant == unicodedata.normalize("NFC", point.participant)

    def _ids(self, point: Point) -> tuple[str, str]:
        """Race and participant, where they are not given by the name of the file. Raises WrongUse."""
        name = as_text(Path(unpacked_name(self.path.name)).stem)
        race, participant = self.race or normal_id(name), self.participant or normal_id(name)
        lacking = [] if race else ["race"]
        if participant is None and point.participant is None:
            lacking.insert(0, "participant")
        if lacking:
            options = " and ".join(f"--{what}" for what in lacking)
            raise WrongUse(f"'{name}', the file's name, is not a {' or '.join(lacking)} id: {ID_RULE}: give {options}")
        return race or "", participant or ""
