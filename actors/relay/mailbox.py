"""What the next entry will hold: races put in what they show, and never wait."""

from __future__ import annotations

import attrs
import trio

from actors.dashboards.frames import Frame
from actors.relay.entry import AGAIN, FRAME, LOOK, Item
from actors.relay.frames import write_frame

MOST_BYTES = 8 * 1024 * 1024
"""Waiting, while Redis does not answer. Beyond it all is dropped: other nodes see a gap, and read from the stores."""


@attrs.define(eq=False)
class RelayMailbox:
    """Owned by the supervisor: what waits outlives a crash of the relay."""

    compressing: bool  # [ws] compression
    deaf: bool = True  # what other nodes show may not come here: until the relay hears itself
    dropped: bool = False  # since `take`
    _items: list[Item] = attrs.field(factory=list)
    _bytes: int = 0
    _wake: trio.Event = attrs.field(factory=trio.Event)

    def depth(self) -> int:
        """Items."""
        return len(self._items)

    def show(self, race_id: str, frame: Frame) -> None:
        """From a race: its dashboards here get this. Never blocks, never raises."""
        self._put(Item(race_id, FRAME, write_frame(frame, self.compressing)))

    def read_again(self, race_id: str) -> None:
        """From a race: what it showed is taken back."""
        self._put(Item(race_id, AGAIN))

    def look_again(self) -> None:
        """The stores know more than other nodes may have heard of. Never blocks, never raises."""
        self._put(Item("", LOOK))

    def _put(self, item: Item) -> None:
        self._bytes += len(item.data)
        if self._bytes > MOST_BYTES:
            self._items.clear()
            self._bytes, self.dropped = 0, True
        else:
            self._items.append(item)
        self._wake.set()

    def take(self) -> list[Item]:
        """All of it, in order."""
        items, self._items = self._items, []
        self._bytes = 0
        return items

    async def wait(self) -> None:
        """Until something is there."""
        while not self._items:
            self._wake = trio.Event()
            await self._wake.wait()
