"""What stands outside the tree: the drivers that actors talk to. Real ones here; a simulation brings its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from actors.core.queries import History
from actors.live_state import Cache
from actors.persistence import Store
from actors.reader import Link
from actors.restore import NewestInCache


class LiveCache(Cache, NewestInCache, Protocol):
    """The Redis driver: written by live state, read when a race starts."""


@attrs.frozen
class Outside:
    """Every driver once. `make_link` because a reader that crashed starts with a new connection."""

    make_link: Callable[[], Link]
    store: Store
    history: History
    cache: LiveCache
