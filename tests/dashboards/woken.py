"""An outbox, and what it wakes."""

from __future__ import annotations

from actors.dashboards.frames import Frame
from actors.dashboards.outbox import Outbox

LIMIT = 1000
EVERYTHING = 10**9


class Woken:
    """Counts calls of `wake`."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def make(limit: int = LIMIT) -> tuple[Outbox, Woken]:
    woken = Woken()
    return Outbox(limit, woken), woken


def raw(data: bytes) -> Frame:
    """A frame that goes out as it was made, in either form."""
    frame = Frame(data)
    frame._plain = frame._deflated = data
    return frame


def live(outbox: Outbox, *races: str) -> None:
    """Subscribe to races and take their snapshots away."""
    for race in races:
        outbox.expect(race)
        outbox.snapshot(race, raw(b"snapshot"))
    outbox.take(EVERYTHING)
