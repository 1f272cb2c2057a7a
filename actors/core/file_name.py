"""Names of files: of ids, for every usual file system, Windows' and macOS' too; and as this system takes them."""

from __future__ import annotations

import hashlib
import unicodedata
from os import fsdecode, fsencode

MAX_NAME_BYTES = 200  # of UTF-8: an id of 50 characters; `~`, its hash and `.geojson.part` stay below the usual 255
_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789\u00b9\u00b2\u00b3"),
}


def file_name(text: str, taken: set[str]) -> str:
    """`text` itself, where it can be a name; else what is left of it, and a hash.

    `taken` holds the names given so far, and gets this one: P1 and p1 are one file in many places.
    """
    name = "".join(c if c in "._-@" or unicodedata.category(c)[0] in "LMN" else "_" for c in text)
    name = name.lstrip(".-").encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    if name != text or not name or name.partition(".")[0].casefold() in _DEVICES or _folded(name) in taken:
        # A ~ is in no name without a hash.
        name = f"{name}~{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
    taken.add(_folded(name))
    return name


def on_disk(name: str) -> str:
    """A name or path for `open`: where the locale's encoding lacks one of its characters, its bytes are UTF-8."""
    try:
        fsencode(name)
    except UnicodeEncodeError:
        return fsdecode(name.encode("utf-8", "surrogateescape"))
    return name


def as_text(given: str) -> str:
    """An argument or a file's name, as the system gave it: bytes that the locale's encoding does not have are UTF-8."""
    try:
        return given.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        return given


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
