"""No text refers to what is not here: what another document says stands where it is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.kit.readme import headings
from tests.kit.source import ROOT

CODE = ("actors", "supervisor.py", "schema.sql", "settings.ini", "README.md")
PLACES = (*CODE, "tests", "findings", ".ci", "pyproject.toml")

ELSEWHERE = re.compile(r"[C]ONTRACT|[D]ESIGN|\b[Ii]ssues? #?\d+|\b(?!README\b)[A-Z]+\.md\b")

HEADING = re.compile(r'\bREADME(?:\.md)?,[\s#*-]*"([^"]+)"')
"""The heading may stand on the next line, of a comment too."""

HEADINGS = {text for _, text in headings()}

FILE = re.compile(r"(?<![\w/.-])(?:[\w-]+/)*\w+\.py\b")
OF_LIBRARIES = {"paho/mqtt/_packet.py"}


def files(*places: str) -> dict[str, str]:
    """Name -> text."""
    tops = [ROOT / place for place in places]
    paths = [path for top in tops for path in ([top] if top.is_file() else sorted(top.rglob("*")))]
    return {
        str(path.relative_to(ROOT)): path.read_text("utf-8", errors="replace")
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def elsewhere(text: str) -> Iterator[str]:
    yield from ELSEWHERE.findall(text)
    yield from (f"README: {each}" for each in HEADING.findall(text) if each not in HEADINGS)


def test_no_document_is_named_that_is_not_here() -> None:
    assert {name: found for name, text in files(*PLACES).items() if (found := [*elsewhere(text)])} == {}


def test_the_python_files_that_are_named_are_here() -> None:
    """By the last part of their path, from whichever folder."""
    tree = files("actors", "tests", "supervisor.py")
    tails = {tail for path in tree for tail in (path.split("/", n)[-1] for n in range(path.count("/") + 1))}
    named = {(name, each) for name, text in files(*CODE).items() for each in FILE.findall(text)}
    assert {(name, each) for name, each in named if each not in tails | OF_LIBRARIES} == set()
    assert len(named) > 100


def test_what_counts_as_a_reference() -> None:
    here, gone = "Settings", "Set" + "tling"
    assert gone not in HEADINGS
    assert "For the daemon." not in HEADINGS  # a comment in a file of README.md
    for between in (", ", ".md, ", ",\n    ", ",\n    # "):
        assert [*elsewhere(f'README{between}"{here}"')] == []
        assert len([*elsewhere(f'README{between}"{gone}"')]) == 1
    for name in ("CONTR" + "ACT section 3", "DES" + "IGN rule 3", "Iss" + "ue 2", "iss" + "ues #12", "STORES" + ".md"):
        assert len([*elsewhere(f"As {name} says.")]) == 1
    assert [*elsewhere("The contract, an issue of README.md. python-trio/trio-websocket#184")] == []
