"""Content codings: which one an answer gets, and how it is made piece by piece (RFC 9110 sections 8.4 and 12.5.3)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

from backports import zstd

GZIP_LEVEL = 4
"""Of positions, level 6 makes 8 % less and takes half as long again."""
ZSTD_LEVEL = 1
"""Less than gzip's level 6 makes, in a fifth of the time. Level 3 makes more of it."""


class Coder(Protocol):
    """Takes a body in pieces, gives it coded in pieces, which may be empty."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes:
        """The end."""
        ...


CODERS: dict[str, Callable[[], Coder]] = {
    "zstd": lambda: zstd.ZstdCompressor(ZSTD_LEVEL),
    "gzip": lambda: zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16),
}
"""The ones that we have, the better first."""


def chosen(accept_encoding: str) -> str | None:
    """Of those that the client takes, the one that it likes best, of these our first; None when it takes none of them.

    What cannot be read in the header is not asked for. A plain body is always possible: `identity;q=0` is overheard.
    """
    quality: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        quality[name.removeprefix("x-")] = _quality(parameters)
    anything = quality.get("*", 0.0)
    liked = {name: quality.get(name, anything) for name in CODERS}
    best = max(liked, key=lambda name: liked[name])
    return best if liked[best] > 0 else None


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
