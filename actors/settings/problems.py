"""How problems of the settings read: one line each, with a near-miss hint, never with a secret in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

from actors.core.printable import printable

HIDDEN = "***"

_SHOWN = 80  # characters of a value
_CONFIDENTIAL = re.compile(r"pass|pwd|secret|token|cred|auth", re.IGNORECASE)
_USERINFO = re.compile(r"\S*:.*@", re.DOTALL)  # of a URL, with or without its scheme


def problem(place: str, value: str, text: str) -> str:
    """One line. `place` is `settings.ini [section] key`, `text` what is wrong and what is allowed."""
    return f"{printable(place)}: value '{_shown(value)}': {printable(_USERINFO.sub(HIDDEN + '@', text))}"


def concealed(name: str, value: str) -> str:
    """A value that may be a (misspelt) secret, by the name of its key."""
    return HIDDEN if value and _CONFIDENTIAL.search(name) else value


def unknown_section(file: str, section: str, keys: Mapping[str, str], known: Collection[str]) -> list[str]:
    """A line for each key that stands in it."""
    near = difflib.get_close_matches(section.strip().lower(), known, n=1)
    hint = f"did you mean [{near[0]}]? " if near else ""
    text = f"unknown section; {hint}allowed are {', '.join(known)}"
    place = f"{file} [{_shown(section)}]"
    return [problem(f"{place} {_shown(k)}", concealed(k, value), text) for k, value in keys.items()] or [
        f"{place}: {text}"
    ]


def unknown_key(file: str, section: str, name: str, value: str, keys: Mapping[str, Collection[str]]) -> str:
    """`keys` has the known keys of every section."""
    near = difflib.get_close_matches(name, keys[section], n=1)
    elsewhere = [other for other in keys if name in keys[other]]
    if elsewhere:
        hint = f"it belongs in [{'] or ['.join(elsewhere)}]; "
    elif near:
        hint = f"did you mean {near[0]}? "
    else:
        hint = ""
    shown = concealed(" ".join([name, *near]), value)
    text = f"unknown key; {hint}allowed are {', '.join(keys[section])}"
    return problem(f"{file} [{section}] {_shown(name)}", shown, text)


def _shown(value: str) -> str:
    value = _USERINFO.sub(HIDDEN + "@", value)
    return printable(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
