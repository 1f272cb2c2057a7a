"""What goes through the stream, and whether something of it is missing.

Every run of a node numbers its entries. It says nothing new at least once in BEAT_S, so that a reader knows within that
time that it hears everything: by the numbers of others, and by its own entries, which come back.
"""

from __future__ import annotations

import attrs
import msgspec

BEAT_S = 1.0

FRAME, AGAIN, LOOK = 0, 1, 2
"""Kinds of an item: a frame for the dashboards of the race; it takes back what it showed of the race; the stores hold
what could not be told, or not be read there, of whatever race."""


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of one race."""

    race_id: str  # "" with LOOK
    kind: int
    data: bytes = b""  # of a frame: see relay/frames.py


class Sender(msgspec.Struct, frozen=True, array_like=True):
    """A node, as it shows itself to the others."""

    node_id: str = ""
    secret_mark: int = 0  # of what signs tokens: http/access.py


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Of one run of a node. Newer versions add at the end, with a default; older ones skip that."""

    run: str  # unique
    number: int  # from 1
    items: list[Item]
    sender: Sender = Sender()


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Entry)


def write_entry(entry: Entry) -> bytes:
    """As it stands in the stream."""
    return _encode(entry)


def read_entry(data: bytes) -> Entry | None:
    """None for what no node of ours has written."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return None


@attrs.define
class Hearing:
    """Whether everything is heard. Times are seconds on any one clock."""

    silence_s: float  # without a word of a run that is there: something is wrong
    _next: dict[str, int] = attrs.field(factory=dict)  # by run
    _heard_s: dict[str, float] = attrs.field(factory=dict)  # by run

    def hears(self, run: str, number: int, now_s: float) -> bool:
        """False when entries of this run are missing before this one. The first of a run never says so: what a race
        that is read from the stores knows is what came before."""
        expected = self._next.get(run, number)
        self._next[run] = number + 1
        self._heard_s[run] = now_s
        return number <= expected

    def forget_silent(self, now_s: float) -> set[str]:
        """Runs that were not heard for so long: they have ended, or we do not hear them."""
        silent = {run for run, heard_s in self._heard_s.items() if now_s - heard_s > self.silence_s}
        for run in silent:
            del self._heard_s[run], self._next[run]
        return silent
