"""Partitions are made ahead of their time, where the table has some for months or weeks."""

from __future__ import annotations

from typing import Protocol

import attrs
import structlog
import trio

from actors.core.errors import RowRefused, StoreMisconfigured, StoreUnavailable
from actors.telemetry.health import Health

log = structlog.get_logger("persistence")

EVERY_S = 3600.0
AGAIN_S = 10.0  # PostgreSQL was away, or busy
FIRST_S = 1.0


class Maker(Protocol):
    """The PostgreSQL driver."""

    async def make_partitions(self) -> list[str]:
        """The names of those that were missing. Raises StoreUnavailable, StoreMisconfigured or RowRefused."""
        ...


@attrs.define(eq=False)
class PartitionsAhead:
    """A part of persistence. What keeps them from being made is said once; rows without one wait (unplaced.py)."""

    store: Maker
    health: Health
    _said: str = ""  # what the last trouble was

    async def keep(self) -> None:
        """At the start and every hour, for ever."""
        wait_s = FIRST_S
        while True:
            await trio.sleep(wait_s)
            wait_s = FIRST_S
            if self.health.components["postgres"].up:
                wait_s = await self._make()

    async def _make(self) -> float:
        """Seconds until it is to be done again."""
        try:
            names = await self.store.make_partitions()
        except StoreUnavailable as trouble:
            log.debug("partitions were not made ahead", why=str(trouble))
            return AGAIN_S
        except (StoreMisconfigured, RowRefused) as trouble:
            if str(trouble) != self._said:
                log.warning("partitions cannot be made ahead", why=str(trouble))
            self._said = str(trouble)
            return EVERY_S
        self._said = ""
        if names:
            log.info("partitions made ahead", names=", ".join(names))
        return EVERY_S
