"""Races by both ways that a message has to them."""

from __future__ import annotations

import pytest

from actors.races.shortcut import Shortcut


@pytest.fixture(params=["with the shortcut", "without"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens is the same whether a race does a message in another's turn or gets it by its mailbox."""
    if request.param == "without":
        monkeypatch.setattr(Shortcut, "hand", lambda _self, _message: False)
