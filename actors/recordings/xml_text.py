"""The bytes of an XML file -> text for expat, in whatever encoding a device has written it."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import chain

from actors.recordings.points import CutOff

HEAD_BYTES = 64 * 1024  # in which an XML declaration has to end

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Before it may be blanks, a comment, what a server said: anything but an element.
_DECLARED = r"(?:[^<]|<!)*?<\?xml\s[^>]*?"
_NAMED = re.compile(_DECLARED.encode() + rb"\sencoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_DECLARATION = re.compile(_DECLARED + r"\?>")
_FORBIDDEN = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE = re.compile(r"&(?:(?:amp|lt|gt|quot|apos|#([0-9]{1,7})|#x([0-9A-Fa-f]{1,6}));)?")
_LONGEST = len("&#1114111;")


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

    So becomes what XML does not allow, and a `&` that begins nothing is one: titles are typed by people, and written by
    devices that do not care. The XML declaration is taken away with what is before it (line ends stay, so that lines
    count right): the encoding is dealt with, and expat allows no blanks there, with which some services begin.
    """
    rest = ""
    for piece in _decoded(chunks):
        text = rest + _FORBIDDEN.sub("\ufffd", piece)
        end = text.rfind("&", -_LONGEST)
        end = len(text) if end < 0 or ";" in text[end:] else end
        rest = text[end:]
        yield _REFERENCE.sub(_reference, text[:end])
    yield _REFERENCE.sub(_reference, rest)


def _reference(found: re.Match[str]) -> str:
    decimal, hexadecimal = found.groups()
    if decimal or hexadecimal:
        code = int(decimal) if decimal else int(hexadecimal, 16)
        is_one = 0 < code <= sys.maxunicode and not _FORBIDDEN.match(chr(code))
    else:
        is_one = len(found[0]) > 1
    return found[0] if is_one else "&amp;" + found[0][1:]


def _decoded(chunks: Iterable[bytes]) -> Iterator[str]:
    """Without the declaration, and without NULs at the end, which a device leaves behind whose battery died before its
    disk had the text."""
    chunks = iter(chunks)
    head = bytearray()
    cut: CutOff | None = None
    try:
        while len(head) < HEAD_BYTES and (chunk := next(chunks, b"")):
            head += chunk
    except CutOff as error:  # after what is whole
        cut = error
    decoder = codecs.getincrementaldecoder(encoding_of(bytes(head)))(errors="replace")
    start = decoder.decode(head)
    if found := _DECLARATION.match(start):
        start = "\n" * found[0].count("\n") + start[found.end() :]
    at_end = False  # NULs are held back, which nothing has followed yet; one of them is as wrong as all
    for text in chain([start], map(decoder.decode, chunks), [decoder.decode(b"", final=True)]):
        kept = text.rstrip("\0")
        yield "\0" + kept if at_end and kept else kept
        at_end = len(kept) < len(text) or (at_end and not kept)
    if cut is not None:
        raise cut
