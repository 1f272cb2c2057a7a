"""What strangers send is shown without doing anything to the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.printable import printable

ANY = st.text(st.characters(categories=None))  # surrogates, too


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë → 1", "Zoë → 1"),
        ("a\x1b[2Jb\n", "a\\x1b[2Jb\\n"),
        ("\u202egnp", "\\u202egnp"),
        ("a\xa0b\u2028", "a\\xa0b\\u2028"),
        ("\udc80\U000e0001", "\\udc80\\U000e0001"),
        ("C:\\n\n", "C:\\n\\n"),
    ],
)
def test_what_does_not_print_is_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(ANY)
def test_whatever_comes_prints_and_what_printed_stays(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
