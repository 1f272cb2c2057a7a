"""Which race a rejected payload speaks of: its row has no column for it, and the payload may not even be JSON."""

from __future__ import annotations

import json
import re
import unicodedata

# Works on a payload that was cut off, and on every element of an array.
_RACE = re.compile(r'"race_id"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.)*")')


def mentions_race(payload: bytes, race_id: str) -> bool:
    """Whether a member `race_id` anywhere in the payload has this value (compared in NFC)."""
    for match in _RACE.finditer(payload.decode("utf-8", "replace")):
        try:
            value = json.loads(match[1])
        except ValueError:  # a bad escape
            continue
        if unicodedata.normalize("NFC", value) == race_id:
            return True
    return False
