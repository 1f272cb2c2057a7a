"""What readers of recordings give, before it is judged; and the account of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

import attrs
import msgspec

from actors.core.errors import RejectionCode, TrackingError
from actors.core.timestamps import format_ms


class UnreadableRecording(TrackingError):
    """The file cannot be read, or is not what it seems to be."""


class WrongUse(TrackingError):
    """Something else has to be typed: an id that cannot be, a file of a kind that is not known."""


class CutOff(Exception):
    """The file ends in the middle. Whatever a reader gave before it raises this is whole."""


class Point(msgspec.Struct, frozen=True, gc=False):
    """One point as its file has it. No rule has looked at it yet."""

    line: int  # of the file, from 1
    latitude: str | None
    longitude: str | None
    time: str | None
    planned: bool = False  # of a route: somewhere to go, where nobody has been
    participant: str | None = None  # where the file says whose point it is; None: of whom the whole file is


@attrs.frozen
class Recorded:
    """One message to publish."""

    participant_id: str  # of its first fix, for the topic; in NFC
    race_id: str
    at_ms: int  # Unix ms of its first fix
    payload: bytes


Reader = Callable[[Iterable[bytes]], Iterator[Point]]
"""From the bytes of a file, in pieces of any size. Raises UnreadableRecording; at the end, perhaps, CutOff."""


class LeftOut(StrEnum):
    """Why a point is left out that breaks no rule of the payload; in the words of the summary."""

    ROUTE = "point of a route"
    NO_TIME = "no time"
    NO_ZONE = "no time zone"
    PLACEHOLDER = "placeholder time"
    MARKER = "pause marker"
    REPEATED = "time seen before"


Reason = LeftOut | RejectionCode


@attrs.define
class PointAccount:
    """What was read of one recording, and what was left out of it."""

    read: int = 0  # points, the ones left out too
    left_out: dict[Reason, int] = attrs.field(factory=dict)
    first_line: dict[Reason, int] = attrs.field(factory=dict)  # where each reason was met first
    cut: str = ""  # how the file ends before its end; empty: it does not
    first_ms: int | None = None  # Unix ms of the first point that was taken, as recorded

    def leave_out(self, reason: Reason, line: int) -> None:
        """One that was read is not taken."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1
        self.first_line.setdefault(reason, line)

    @property
    def summary(self) -> str:
        """`read 7 points, left out 2: no time 1 (line 9), bad_coordinate 1 (line 7)`; most frequent first."""
        most = sorted(self.left_out.items(), key=lambda item: -item[1])
        reasons = ", ".join(f"{reason} {count:,} (line {self.first_line[reason]:,})" for reason, count in most)
        return f"read {self.read:,} points, left out {sum(self.left_out.values()):,}{': ' if reasons else ''}{reasons}"

    @property
    def looks_made_up(self) -> bool:
        """Its times begin at the first moment of a year, as some planners write them."""
        return self.first_ms is not None and format_ms(self.first_ms)[4:] == "-01-01T00:00:00.000Z"

    @property
    def is_course(self) -> bool:
        """All that is in it is somewhere to go, without a time."""
        return self.read > 0 and self.read == sum(
            count for reason, count in self.left_out.items() if reason in (LeftOut.ROUTE, LeftOut.NO_TIME)
        )
