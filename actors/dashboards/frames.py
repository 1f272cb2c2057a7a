"""Frames for dashboards, ready to be sent (RFC 6455 section 5.2), plain and deflated, shared by all who want them."""

from __future__ import annotations

from actors.dashboards.deflate import TAIL, blocks

SMALL_BYTES = 128
"""Below it a message does not shrink by more than some bytes."""

SLICE_BYTES = 256 * 1024
"""Deflated in one go, some 1.5 ms. A large text is a hundredth longer for it."""

LARGE_BYTES = 256 * 1024
"""From here on a message goes out in fragments (RFC 6455 section 5.4), each part of it one: those which several
messages share are in memory once, for all dashboards."""

_GOES_ON, _TEXT = 0, 1  # opcodes; from a server, so not masked
_LAST = 0x80  # FIN
_DEFLATED = 0x40  # RSV1 of the first fragment (RFC 7692 section 6)


class Shared:
    """A part that several messages have: deflated once for all of them."""

    __slots__ = ("_blocks", "_deflated", "_plain", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._blocks = self._plain = self._deflated = b""  # nobody wanted them yet

    def deflate(self) -> bytes:
        """Its blocks: see dashboards/deflate.py."""
        if not self._blocks:
            self._blocks = blocks(self.data)
        return self._blocks

    def fragment(self, deflated: bool) -> bytes:
        """As a fragment that is neither the first nor the last."""
        if deflated:
            if not self._deflated:
                self._deflated = _frame(_GOES_ON, self.deflate())
            return self._deflated
        if not self._plain:
            self._plain = _frame(_GOES_ON, self.data)
        return self._plain


def sliced(text: bytes) -> list[Shared]:
    """Parts that can be deflated with a turn for everybody between them."""
    return [Shared(text[at : at + SLICE_BYTES]) for at in range(0, len(text), SLICE_BYTES)]


class Frame:
    """One text message. Either form is made when the first dashboard wants it."""

    __slots__ = ("_deflated", "_parts", "_plain")

    def __init__(self, *parts: bytes | Shared) -> None:
        self._parts = [part if isinstance(part, Shared) else Shared(part) for part in parts]
        self._plain = self._deflated = b""  # nobody wanted it yet

    @property
    def plain(self) -> bytes:
        """For a dashboard that did not agree on compression."""
        if not self._plain:
            self._plain = _frame(_LAST | _TEXT, b"".join([part.data for part in self._parts]))
        return self._plain

    @property
    def deflated(self) -> bytes:
        """For one that did. What does not shrink is plain."""
        if not self._deflated:
            self._deflated = self._deflate() or self.plain
        return self._deflated

    @classmethod
    def ready(cls, event: bytes, deflated: bytes) -> Frame:
        """Of an event that somebody has deflated before."""
        frame = cls(event)
        frame._deflated = deflated
        return frame

    def pieces(self, deflated: bool) -> list[bytes]:
        """The same in either form, as it goes out: one frame, or the fragments of a LARGE_BYTES message, between which
        only control frames may be sent."""
        if self._size() < LARGE_BYTES or len(self._parts) < 3:
            return [self.deflated if deflated else self.plain]
        first, *others, last = self._parts
        return [
            _frame(_TEXT | _DEFLATED, first.deflate()) if deflated else _frame(_TEXT, first.data),
            *[part.fragment(deflated) for part in others],
            _frame(_LAST | _GOES_ON, last.deflate().removesuffix(TAIL) if deflated else last.data),
        ]

    def _size(self) -> int:
        return sum([len(part.data) for part in self._parts])

    def _deflate(self) -> bytes | None:
        size = self._size()
        if size < SMALL_BYTES:
            return None
        message = b"".join([part.deflate() for part in self._parts]).removesuffix(TAIL)
        return _frame(_LAST | _TEXT | _DEFLATED, message) if len(message) < size else None


def _frame(first: int, payload: bytes) -> bytes:
    """With its length in 1, 3 or 9 bytes."""
    length = len(payload)
    if length < 126:
        head = bytes((first, length))
    elif length < 65536:
        head = bytes((first, 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, 127)) + length.to_bytes(8, "big")
    return head + payload


def is_deflated(frame: bytes) -> bool:
    """Of a frame that was made here."""
    return bool(frame and frame[0] & _DEFLATED)


def payload_of(frame: bytes) -> bytes:
    """Of a whole frame that was made here. Raises IndexError."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]
