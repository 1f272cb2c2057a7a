"""Texts of strangers for a person's eyes."""

from __future__ import annotations


def printable(text: str) -> str:
    """No character of it moves a terminal's cursor, begins a line or turns the direction: those become escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
