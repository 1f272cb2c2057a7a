"""README.md as text, and the blocks of it that are run."""

from __future__ import annotations

import json
import re
import time

from tests.kit.daemon import ROOT

README = (ROOT / "README.md").read_text("utf-8")
RACE = "Demo-Trail"


def headings() -> list[tuple[int, str]]:
    """Level, 1 to 4, and text of each, in order; comments in its files are none."""
    without_files = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    return [(len(marks), text) for marks, text in re.findall(r"^(#{1,4}) (.+)$", without_files, re.MULTILINE)]


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return "#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def block(language: str, holding: str) -> str:
    """The one fenced block of this language with this text in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    found = [text for text in blocks if holding in text]
    assert len(found) == 1, f"README.md has {len(found)} {language} blocks with {holding!r}"
    return str(found[0])


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """Each of the old texts must be there."""
    for old, new in pairs:
        assert old in text, f"README.md has no {old!r} there"
        text = text.replace(old, new)
    return text


def payload(participant: str, timestamp_s: int, race: str = RACE) -> bytes:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(timestamp_s))
    fix = {"participant_id": participant, "race_id": race, "latitude": 1.5, "longitude": 2.5, "timestamp": when}
    return json.dumps(fix).encode()
