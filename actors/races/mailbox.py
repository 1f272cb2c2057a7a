"""The messages for one race, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import outcome
import trio

from actors.races.messages import RaceMessage


class Mailbox:
    """Owned by the directory with the race's state: it outlives a crash of the race.

    A message is taken and done in one step, so it is either here or done. A channel would hand it to the waiting task
    first, which may have been cancelled by the time it runs.

    With a thousand races each message would be a wake-up of its own, which costs more than what is to be done. So a
    race that sleeps leaves word how it does a message (`sleep`), and whoever hands one over (`hand`) does it for the
    race there and then. The race is woken when it has to look up; a crash wakes it as its own crash.
    """

    def __init__(self) -> None:
        self._waiting: deque[RaceMessage] = deque()
        self._sleeper: trio.lowlevel.Task | None = None
        self._do: Callable[[RaceMessage], bool] | None = None  # while it sleeps, and no message is being done

    def __len__(self) -> int:
        return len(self._waiting)

    def post(self, message: RaceMessage) -> None:
        """For the race to do in its own turn. Never blocks."""
        self._waiting.append(message)
        self.wake()

    def wake(self) -> None:
        """Have the race look up, if it sleeps."""
        self._wake(outcome.Value(None))

    def hand(self, message: RaceMessage) -> bool:
        """Have it done at once; False when the race does not sleep: then `post` it. Never blocks, never raises."""
        do = self._do
        if do is None:
            return False
        self._do = None
        try:
            stays = do(message)
        except Exception as crash:  # noqa: BLE001  # the race's, not the caller's: its supervisor decides
            self._wake(outcome.Error(crash))
            return True
        if stays and not self._waiting and self._sleeper is not None:  # not cancelled by what it did
            self._do = do
        else:
            self._wake(outcome.Value(None))
        return True

    async def sleep(self, do: Callable[[RaceMessage], bool]) -> None:
        """Until there is something to take, or `do` returned False. Raises what `do` raised. For one task at a time.

        `do` does one message that was handed over, in the turn of another task. It does not wait.
        """
        if not self._waiting:
            self._sleeper, self._do = trio.lowlevel.current_task(), do
            await trio.lowlevel.wait_task_rescheduled(self._stop_sleeping)

    def take(self) -> RaceMessage | None:
        """The oldest message."""
        return self._waiting.popleft() if self._waiting else None

    def take_all(self) -> list[RaceMessage]:
        """Every message, the oldest first."""
        messages = list(self._waiting)
        self._waiting.clear()
        return messages

    def _wake(self, why: outcome.Outcome[None]) -> None:
        sleeper, self._sleeper, self._do = self._sleeper, None, None
        if sleeper is not None:
            trio.lowlevel.reschedule(sleeper, why)

    def _stop_sleeping(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._sleeper = self._do = None
        return trio.lowlevel.Abort.SUCCEEDED
