"""Settings of other nodes that cannot be right beside ours are told, once."""

from __future__ import annotations

import pytest

from actors.relay.entry import Entry, Sender
from actors.relay.others import Others

ME = Sender("a", 7)


@pytest.mark.parametrize(
    ("sender", "words"),
    [
        (Sender("b", 7), []),
        (Sender("b", 8), ["auth_secret"]),
        (Sender("a", 7), ["node_id"]),
        (Sender("a", 8), ["auth_secret", "node_id"]),
    ],
)
def test_what_is_wrong_is_told_once_a_run(sender: Sender, words: list[str]) -> None:
    others = Others(ME)
    for run in ("one", "two"):
        told = list(others.faults(Entry(run, 1, [], sender)))
        assert len(told) == len(words)
        assert all(word in text for word, text in zip(words, told, strict=True))
        assert list(others.faults(Entry(run, 2, [], sender))) == []


def test_a_run_that_ended_is_forgotten() -> None:
    others, entry = Others(ME), Entry("one", 1, [], Sender("b", 8))
    assert list(others.faults(entry))
    others.forget({"one", "none"})
    assert list(others.faults(entry))
