"""permessage-deflate (RFC 7692): what is agreed on, and messages to blocks of DEFLATE and back.

No message refers to another one, in either direction. So one that is for many dashboards is deflated once for all of
them, and nothing is kept for a dashboard between two of its own, which would take some 40 kB of memory.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator

NAME = "permessage-deflate"

WINDOW_BITS = 11
"""Our blocks look back 2 kB at most, some ten positions. Of 100 positions that makes 8 %, and 32 kB would make 7.5 % in
twice the time: shorter ways back take fewer bits. Clients ask for no less than 12 bits (Python's websockets)."""

LEVEL, MEMORY_LEVEL = 9, 5
"""zlib's. In so small a window the highest level takes as long as the usual one, some 130 µs for 100 positions."""

TAIL = b"\x00\x00\xff\xff"
"""How `blocks` end; a message goes without it (section 7.2.1)."""

_END = b"\x01\x00\x00\xff\xff"  # of a stream: an empty last block (RFC 1951 section 3.2.3)

_VALUES: dict[str, set[str | None]] = {
    "server_no_context_takeover": {None},
    "client_no_context_takeover": {None},
    "server_max_window_bits": {str(bits) for bits in range(WINDOW_BITS, 16)},
    "client_max_window_bits": {None, *(str(bits) for bits in range(8, 16))},  # any will do: 15 are inflated
}
"""What parameters of an offer (section 7.1) may be, so that it can be met; None: no value."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"({_TOKEN})"))?[ \t]*')
_NAME = re.compile(rf"[ \t,]*({_TOKEN})[ \t]*")

Parameters = list[tuple[str, str | None]]


def agreed(offers: Iterable[str]) -> str | None:
    """The Sec-WebSocket-Extensions of the answer to these, each the value of a header; None: no compression.

    The first offer that can be met is. That no message shall refer to another one may be asked for by the answer alone
    (sections 7.1.1.1 and 7.1.1.2).
    """
    for name, parameters in _offers(",".join(offers)):
        found = dict(parameters)
        if (
            name == NAME
            and len(found) == len(parameters)
            and all(value in _VALUES.get(key, ()) for key, value in parameters)
        ):
            window = f"; server_max_window_bits={WINDOW_BITS}" if "server_max_window_bits" in found else ""
            return f"{NAME}; server_no_context_takeover; client_no_context_takeover{window}"
    return None


def _offers(text: str) -> Iterator[tuple[str, Parameters]]:
    """(extension, its parameters), in the order of the client's preference (RFC 6455 section 9.1).

    Ends at what cannot be read: who gets that wrong is served without compression, as ever.
    """
    at = 0
    while name := _NAME.match(text, at):
        at = name.end()
        parameters: Parameters = []
        while parameter := _PARAMETER.match(text, at):
            at = parameter.end()
            parameters.append((parameter[1], parameter[2] or parameter[3]))
        if text[at : at + 1] not in ("", ","):
            return
        yield name[1], parameters


def blocks(data: bytes) -> bytes:
    """Of these bytes alone, up to a TAIL: others may follow, and none of them refers to these."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL, zlib.Z_FILTERED)
    return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)


class BadDeflate(Exception):
    """What cannot be inflated: wrong, or cut off."""


class TooLong(Exception):
    """More comes out than may."""


class Inflation:
    """One message that comes in. Nothing beyond `most` bytes is ever made of it, whatever it holds."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._stream: zlib._Decompress | None = None  # None: nothing has come since the last one ended

    def feed(self, data: bytes) -> bytes:
        """What comes out of the next part. Raises BadDeflate, TooLong."""
        found: list[bytes] = []
        while data:
            stream = self._stream or zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                part = stream.decompress(data, self._left + 1)
            except zlib.error as error:
                raise BadDeflate(str(error)) from None
            self._left -= len(part)
            if self._left < 0:
                raise TooLong
            found.append(part)
            # A block may be the last of its stream, and others begin a new one (section 7.2.1).
            self._stream, data = (None, stream.unused_data) if stream.eof else (stream, b"")
        return b"".join(found)

    def finish(self) -> bytes:
        """What comes out at the end. Raises BadDeflate, TooLong."""
        if self._stream is None:  # also who forgets what belongs behind the last block of a stream is understood
            return b""
        found = self.feed(TAIL + _END)
        if self._stream is not None:
            raise BadDeflate("cut off")
        return found
