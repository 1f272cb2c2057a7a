"""Where map tiles come from: a URL with {z}, {x} and {y} in it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from actors.core.addresses import one_origin

_ALLOWED = "allowed is empty or a URL like https://tiles.example.org/{z}/{x}/{y}.png, {z}, {x} and {y} once each"
_REST = re.compile(r"/[A-Za-z0-9._~%!$&()*+=:@/?-]*", re.ASCII)  # of the URL, {z} {x} {y} taken out


def tile_url(text: str) -> str:
    """The text itself. Raises ValueError."""
    if not text:
        return text
    origin = tile_origin(text)
    rest = text[len(text) - len(text.split("://", 1)[1].partition("/")[2]) - 1 :]
    for name in ("{z}", "{x}", "{y}"):
        if rest.count(name) != 1:
            raise ValueError(f"{name} is not in its path once; {_ALLOWED}")
        rest = rest.replace(name, "")
    if not origin.startswith(("http://", "https://")) or not _REST.fullmatch(rest):
        raise ValueError(f"not a URL of tiles; {_ALLOWED}")
    return text


def tile_origin(text: str) -> str:
    """The origin of such a URL, for the page's Content-Security-Policy. Raises ValueError."""
    try:
        url = urlsplit(text)
        return one_origin(f"{url.scheme}://{url.netloc.lower()}")
    except ValueError:
        raise ValueError(f"not a URL; {_ALLOWED}") from None
