"""core/file_name.py: ids of any script as names of files, none twice, none that a file system refuses."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core import file_name as file_names
from actors.core.file_name import file_name, on_disk


@pytest.mark.parametrize("text", ["P001", "Zoë", "レース2025", "سباق.٢", "र1", "a.b_c-d@e", "x" * 50, "𐍈" * 50])
def test_an_id_is_its_own_name(text: str) -> None:
    assert file_name(text, set()) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../../etc/passwd", "a/b", "a\\b", "-rf", "a\nb", "nul", "COM1.x", "a\u202eb", "𐍈" * 80]
)
def test_what_cannot_be_a_name_gets_a_hash(text: str, tmp_path: Path) -> None:
    name = file_name(text, set())
    assert name != text
    assert "~" in name
    (tmp_path / f"{name}.geojson.part").write_text("")
    assert os.listdir(tmp_path) == [f"{name}.geojson.part"]


def test_names_that_are_one_file_elsewhere_are_told_apart() -> None:
    taken: set[str] = set()
    names = [file_name(text, taken) for text in ("P1", "p1", "Zoe\u0301", "ZOË", "Zoé", "STRASSE", "straße")]
    assert len({unicodedata.normalize("NFKC", name).casefold() for name in names}) == len(names)
    assert names[0] == "P1"
    assert names[1].startswith("p1~")


@given(st.lists(st.text(max_size=50), unique=True, max_size=20))
def test_no_two_are_alike_and_none_is_dangerous(texts: list[str]) -> None:
    texts = [text for text in texts if not any("\ud800" <= c <= "\udfff" for c in text)]
    taken: set[str] = set()
    names = [file_name(text, taken) for text in texts]
    assert len({name.casefold() for name in names}) == len(texts)
    for name in names:
        assert name
        assert not set(name) & set('/\\\0:*?"<>|\n')
        assert name[0] not in ".-"
        assert len(f"{name}.geojson.part".encode()) <= 255


@pytest.mark.parametrize("locale", ["ascii", "latin-1", "utf-8"])
def test_a_name_is_of_utf_8_where_the_locale_lacks_a_character(locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(name: str) -> bytes:
        return name.encode(locale, "surrogateescape")

    def decode(name: bytes) -> str:
        return name.decode(locale, "surrogateescape")

    monkeypatch.setattr(file_names, "fsencode", encode)
    monkeypatch.setattr(file_names, "fsdecode", decode)
    assert encode(on_disk("レース/Zoë")) == "レース/Zoë".encode()
    assert on_disk("P1.jsonl") == "P1.jsonl"
    assert encode(on_disk("Zoë")) == "Zoë".encode("utf-8" if locale == "ascii" else locale)
    for path in (b"d\xe9", "dé".encode()):  # as the system has given it, in an argument or the environment
        assert encode(on_disk(decode(path))) == path
