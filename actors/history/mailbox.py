"""What races and the reader hand to persistence: the parcels of one turn of the reader as one message.

With a thousand races each fix is a parcel of its own; sent one by one, they cost more in the channel than in the race.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from actors.core.parcel import Parcel, PersistenceMessage


@attrs.define(eq=False)
class ParcelMailbox:
    """The way to persistence. Owned by the supervisor."""

    channel: trio.MemorySendChannel[PersistenceMessage]
    _gathered: list[Parcel] | None = None  # while somebody has a turn

    def send(self, parcel: Parcel) -> None:
        """Never blocks."""
        if self._gathered is None:
            self.channel.send_nowait((parcel,))
        else:
            self._gathered.append(parcel)

    def depth(self) -> int:
        """Messages that wait for persistence."""
        return self.channel.statistics().current_buffer_used

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is sent meanwhile goes as one message, also when it ends in a crash. Not to be waited in."""
        self._gathered = []
        try:
            yield
        finally:
            gathered, self._gathered = tuple(self._gathered), None
            if gathered:
                self.channel.send_nowait(gathered)
