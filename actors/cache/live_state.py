"""Live state: the newest position of every participant, in Redis.

Owns: the connection to Redis. Takes in: live positions, in a coalescing mailbox (newest per participant, so it is
bounded by the participants). Sends out: one write per flush for all races together; newest wins inside Redis.
Redis is a cache: while it is away positions wait here and nothing else notices; emptied, it is filled again.
A crash loses nothing: what was taken for a write goes back. Stops when cancelled, after one last write of at most 2 s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Protocol

import attrs
import structlog
import trio

from actors.core.errors import CacheUnavailable
from actors.core.fix import Fix
from actors.telemetry.health import Health

log = structlog.get_logger("live state")

WRITE_ROWS = 5_000
"""Positions in one write: keeps a single call to Redis well under its one-second deadline."""

RETRY_S = 0.5
PING_S = 5.0
"""With nothing to write, Redis is asked this often whether it is there and still holds what was written."""
LAST_WRITE_S = 2.0


class Cache(Protocol):
    """What live state needs of the Redis driver."""

    async def write(self, changes: Sequence[Fix], forget: Collection[str] = ()) -> bool:
        """True when Redis still held what earlier writes left; False when it may have been emptied in between.

        Races to `forget` are deleted before anything is written. With neither it only asks. Raises CacheUnavailable.
        """
        ...


@attrs.define(eq=False)
class LiveMailbox:
    """Coalescing: one place a participant, the newest position wins. Owned by the supervisor, outlives the actor."""

    waiting: dict[tuple[str, str], Fix] = attrs.field(factory=dict)
    forgotten: set[str] = attrs.field(factory=set)  # races of which Redis may hold what PostgreSQL refused
    _wake: trio.Event = attrs.field(factory=trio.Event)

    @property
    def empty(self) -> bool:
        """Nothing to write, and nothing to delete."""
        return not self.waiting and not self.forgotten

    def depth(self) -> int:
        """Positions that wait."""
        return len(self.waiting)

    def post(self, positions: Sequence[Fix]) -> None:
        """From races. Never blocks."""
        for fix in positions:
            key = (fix.race_id, fix.participant_id)
            held = self.waiting.get(key)
            # In most cases the first key of the rank will do.
            if held is None or fix.timestamp_ms > held.timestamp_ms or fix.rank > held.rank:
                self.waiting[key] = fix
        self._wake.set()

    def forget(self, race_id: str) -> None:
        """From a race, before it posts anew what the stores know. Never blocks."""
        for key in [key for key in self.waiting if key[0] == race_id]:
            del self.waiting[key]
        self.forgotten.add(race_id)
        self._wake.set()

    def take(self, limit: int) -> tuple[list[Fix], set[str]]:
        """The oldest `limit` positions, and all races to forget first; removed."""
        keys = list(islice(self.waiting, limit))
        forgotten, self.forgotten = self.forgotten, set()
        return [self.waiting.pop(key) for key in keys], forgotten

    def put_back(self, positions: Sequence[Fix], forgotten: Collection[str]) -> None:
        """A write failed: what was neither forgotten since nor overtaken by a newer position waits again."""
        self.post([fix for fix in positions if fix.race_id not in self.forgotten])
        self.forgotten.update(forgotten)

    async def wait(self) -> None:
        """Return when something is there."""
        while self.empty:
            self._wake = trio.Event()
            await self._wake.wait()


@attrs.define(eq=False)
class LiveState:
    """Owns the connection to Redis."""

    mailbox: LiveMailbox
    cache: Cache
    health: Health
    flush_s: float
    everything: Callable[[], Iterable[Sequence[Fix]]]  # that is live, some in a turn: for a Redis that was emptied
    caught_up: Callable[[], None] = lambda: None  # Redis holds again what it could not be told for a while
    handled: int = 0  # positions written, for `status`
    _known: bool = False  # a write went through before: only then does "emptied" mean something was lost
    _behind: bool = False  # it could not be told, or may have been emptied

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        task_status.started()
        try:
            while True:
                began = trio.current_time()
                well = await self._write()
                while well and not self.mailbox.empty:
                    well = await self._write()
                if well:
                    if self._behind:
                        self._behind = False
                        self.caught_up()
                    with trio.move_on_after(PING_S):
                        await self.mailbox.wait()
                        if trio.current_time() < began + self.flush_s:  # or it has waited for company already
                            await trio.sleep(self.flush_s)
                else:
                    await trio.sleep(RETRY_S)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WRITE_S):
                while not self.mailbox.empty and await self._write():
                    pass

    async def _write(self) -> bool:
        positions, forgotten = self.mailbox.take(WRITE_ROWS)
        done = False
        try:
            intact = await self.cache.write(positions, forgotten)
            done = True
        except CacheUnavailable as trouble:
            self.health.down("redis", str(trouble))
            self._behind = True
            return False
        finally:
            if not done:
                self.mailbox.put_back(positions, forgotten)
        self.health.up("redis")
        if not intact and self._known:
            log.warning("redis may have been emptied, filling it again")
            self._behind = True
            for some in self.everything():
                self.mailbox.post(some)
                await trio.lowlevel.checkpoint()
        self._known = True
        self.handled += len(positions)
        return True
