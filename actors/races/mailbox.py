"""The messages for one race, in order: a memory channel."""

from __future__ import annotations

import math

import trio

from actors.races.messages import RaceMessage


class Mailbox:
    """Made by the directory with the race's state: it outlives the race's actor, and is never closed. One task at a
    time waits at it.

    What was posted and not taken is here, at every moment. The channel alone would not do: to a task that waits in
    `receive` trio gives a message at once, and the task runs later. It gets the message also when it is cancelled in
    between, so none would be lost; but until it runs nobody else sees that message, and the directory answers for all
    that a race has not done when it evicts it. So `post` notes what the channel gave to the race, which takes it here.
    """

    def __init__(self) -> None:
        self.race_waits = False  # and nothing was posted since; also when it was cancelled and has not run yet
        self._send, self._receive = trio.open_memory_channel[RaceMessage](math.inf)
        self._given: RaceMessage | None = None  # by the channel to the race, which did not take it yet: the oldest

    def __len__(self) -> int:
        if self.race_waits:  # as nearly all do, and statistics take 2 µs
            return 0
        return self._receive.statistics().current_buffer_used + (self._given is not None)

    def post(self, message: RaceMessage) -> None:
        """For the race to do in its own turn. Never blocks."""
        if self._receive.statistics().tasks_waiting_receive:
            self._given = message
        self.race_waits = False
        self._send.send_nowait(message)

    async def wait(self) -> None:
        """Until there is something to take."""
        if not self:
            self.race_waits = True
            try:
                await self._receive.receive()
            finally:
                self.race_waits = False
            # what it returns is what `post` noted, as there was nothing before

    def take(self) -> RaceMessage | None:
        """The oldest message. The race sets it down in its state before it waits for anything: see `Race._do`."""
        if self._given is not None:
            given, self._given = self._given, None
            return given
        try:
            return self._receive.receive_nowait()
        except trio.WouldBlock:
            return None

    def take_all(self) -> list[RaceMessage]:
        """Every message, the oldest first."""
        return list(iter(self.take, None))
