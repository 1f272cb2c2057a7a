"""Ids of participants and races: which are valid, and their one form (NFC)."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MAX_ID = 50  # code points, after NFC
ID_RULE = f"1 to {MAX_ID} letters, marks, digits, . _ - @, the first a letter or digit"

# A character of NFC decomposes into at most 4 (U+1F82), so what is longer than this cannot shrink to MAX_ID.
_MAX_RAW_ID = 4 * MAX_ID
_MARKS_ALLOWED = "._-@"
_is_usual = re.compile(f"[A-Za-z0-9][A-Za-z0-9._@-]{{0,{MAX_ID - 1}}}").fullmatch


def is_usual(text: str) -> bool:
    """Whether an id needs no closer look, and is NFC. 0.1 to 0.4 µs: a look into a cache of 60,000 participants takes
    longer."""
    return (text.isalnum() and text.isascii() and len(text) <= MAX_ID) or _is_usual(text) is not None


@lru_cache(maxsize=32_768)  # keys of at most _MAX_RAW_ID characters: under 40 MB at the very worst
def _normal_id(text: str) -> str | None:
    if is_usual(text):
        return text
    normal = unicodedata.normalize("NFC", text)
    if not 1 <= len(normal) <= MAX_ID:
        return None
    first = unicodedata.category(normal[0])
    if first[0] != "L" and first != "Nd":
        return None
    for character in normal:
        category = unicodedata.category(character)
        if category[0] not in "LM" and category != "Nd" and character not in _MARKS_ALLOWED:
            return None
    return normal


def normal_id(text: str) -> str | None:
    """The id in NFC; None when it breaks the rule for participant_id and race_id."""
    return _normal_id(text) if len(text) <= _MAX_RAW_ID else None
