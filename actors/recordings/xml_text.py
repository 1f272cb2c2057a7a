"""The bytes of an XML file -> text for expat, in whatever encoding a device has written it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain

HEAD_BYTES = 1024  # in which an XML declaration has to end

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMED = re.compile(rb"\s*<\?xml\s[^>]*?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_DECLARATION = re.compile(r"\s*<\?xml\s[^>]*\?>")


def encoding_of(head: bytes) -> str:
    """Of a file that begins so: by its BOM, by where it has NULs, by its declaration, else UTF-8."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    if 0 in head[:2]:
        return "utf-16-be" if head[0] == 0 else "utf-16-le"
    named = _NAMED.match(head)
    if named is None:
        return "utf-8"
    encoding = named[1].decode()
    try:
        # What says in ASCII that it is UTF-16 is not; and not all that Python calls a codec is an encoding.
        return encoding if b"<?xml".decode(encoding, "replace") == "<?xml" else "utf-8"
    except (LookupError, ValueError):
        return "utf-8"


def xml_text(chunks: Iterable[bytes]) -> Iterator[str]:
    """The text of the file, in pieces; what its encoding does not have becomes U+FFFD: numbers and times are ASCII.

    The XML declaration is taken away (its line ends stay, so that lines count right): the encoding is dealt with, and
    expat allows no blanks before it, with which some services begin. So are NULs at the end, which a device leaves
    behind whose battery died before its disk had the text.
    """
    chunks = iter(chunks)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    decoder = codecs.getincrementaldecoder(encoding_of(head))(errors="replace")
    start = decoder.decode(head)
    if found := _DECLARATION.match(start):
        start = "\n" * found[0].count("\n") + start[found.end() :]
    at_end = False  # NULs are held back, which nothing has followed yet; one of them is as wrong as all
    for text in chain([start], map(decoder.decode, chunks), [decoder.decode(b"", final=True)]):
        kept = text.rstrip("\0")
        yield "\0" + kept if at_end and kept else kept
        at_end = len(kept) < len(text) or (at_end and not kept)
