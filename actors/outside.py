"""What stands outside the tree: the drivers that actors talk to. Real ones here; a simulation brings its own."""

from __future__ import annotations

from typing import Protocol

import attrs

from actors.committing import Store
from actors.core.queries import History
from actors.live_state import Cache
from actors.reader import Link
from actors.restore import NewestInCache, NewestInHistory
from actors.spooling import Spool


class RaceHistory(History, NewestInHistory, Protocol):
    """The PostgreSQL reader: asked by dashboards and HTTP, and when a race starts."""


class LiveCache(Cache, NewestInCache, Protocol):
    """The Redis driver: written by live state, read when a race starts."""


@attrs.frozen
class Outside:
    """Every driver once."""

    link: Link
    store: Store
    history: RaceHistory
    cache: LiveCache
    spool: Spool | None = None  # [postgres] spool = no
