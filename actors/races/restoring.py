"""Reading a race again from the stores, for as long as something of it may be missing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import attrs
import trio

from actors.core.fix import Fix
from actors.races.messages import PositionsFound
from actors.races.restore import Found
from actors.races.state import RaceState
from actors.races.turns import in_batches

RETRY_S = 5.0
"""While PostgreSQL is away, or other nodes are not heard: how often the stores are asked."""

AFTER_DOUBT_S = (0.0, 1.0)
"""When the stores are asked after something that other nodes showed was missed: it may be on its way there still. So
may be what they showed right before a race began here: then the stores are asked once more as well."""


class Restore(Protocol):
    """Reads what the stores know of a race, but for fixes with the ids in `without`."""

    async def __call__(self, race_id: str, without: Collection[bytes]) -> Found: ...

    async def again(self, race_id: str, without: Collection[bytes], shown: Sequence[Fix]) -> Found:
        """The same, after others that ask again; and which of `shown` PostgreSQL has refused."""
        ...


class Ears(Protocol):
    """The relay's mailbox."""

    deaf: bool  # what other nodes show may not come here

    def read_again(self, race_id: str) -> None: ...


@attrs.define(eq=False)
class Restoring:
    """Of one race actor."""

    state: RaceState
    restore: Restore
    relay: Ears | None
    _nursery: trio.Nursery | None = None
    _wait: trio.CancelScope | None = None  # while somebody waits for the next time
    _soon: list[float] = attrs.field(factory=list)  # seconds until the next times, the last one first
    _running: bool = False

    def begin(self, nursery: trio.Nursery) -> None:
        """The race does messages, in this nursery."""
        self._nursery, self._running = nursery, False
        self._start()

    def restored(self, complete: bool) -> None:
        """The stores were read for the first time; `complete`: all have answered."""
        self.state.complete = complete and self.relay is None
        self._soon = [] if self.relay is None else [AFTER_DOUBT_S[-1]]

    def doubt(self) -> None:
        """Something may be missing, whatever the stores said before."""
        self.state.complete = False
        self._soon = list(reversed(AFTER_DOUBT_S))
        if self._wait is not None:
            self._soon.pop()  # that is now
            self._wait.cancel()
        self._start()

    def _start(self) -> None:
        if not self.state.complete and not self._running and self._nursery is not None:
            self._running = True
            self._nursery.start_soon(self._run)

    async def _run(self) -> None:
        state = self.state
        while not state.complete:
            await self._pause(self._soon.pop() if self._soon else RETRY_S)
            shown = () if self.relay is None else list(state.live_positions.newest.values())
            found = await self.restore.again(state.race_id, state.refused, shown)
            deaf = self.relay is not None and self.relay.deaf
            state.complete = found.complete and not self._soon and not deaf
            if state.refuse(found.refused) and self.relay is not None:
                self.relay.read_again(state.race_id)
            for fixes in in_batches(found.fixes):
                state.mailbox.post(PositionsFound(fixes))
                await trio.lowlevel.checkpoint()  # it does all that is there in one turn
        self._running = False

    async def _pause(self, seconds: float) -> None:
        with trio.CancelScope(deadline=trio.current_time() + seconds) as self._wait:
            await trio.sleep_forever()
        self._wait = None
