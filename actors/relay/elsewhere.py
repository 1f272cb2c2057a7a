"""What other nodes show, to the races of this one."""

from __future__ import annotations

import attrs
import trio

from actors.races.directory import Directory
from actors.races.messages import Doubted, RaceMessage, ShownElsewhere
from actors.relay.mailbox import RelayMailbox
from actors.supervision.child import State

AT_ONCE = 50
"""Races that are told to doubt in one go: each of them wakes up."""


@attrs.define(eq=False)
class Elsewhere:
    """Called by the relay. A race that nobody watches and of which nothing came here does not hear of it."""

    directory: Directory
    mailbox: RelayMailbox

    def shown(self, race_id: str, shown: ShownElsewhere) -> None:
        """Another node has shown this to its dashboards. Never blocks."""
        self._tell(race_id, shown)

    def read_again(self, race_id: str) -> None:
        """Another node has taken back what it showed. Never blocks."""
        if race_id in self.directory.states:
            self.directory.states[race_id].begin_anew()
            self._tell(race_id, Doubted())

    async def hear_all(self, hears: bool) -> None:
        """Whether all that other nodes show comes here. When not, races are read from the stores, until True."""
        self.mailbox.deaf = not hears
        await self.doubt_all()

    async def doubt_all(self) -> None:
        """The stores may know more of any race than it has heard."""
        for count, race_id in enumerate(list(self.directory.states), 1):
            self._tell(race_id, Doubted())
            if count % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _tell(self, race_id: str, message: RaceMessage) -> None:
        directory = self.directory
        state = directory.states.get(race_id)
        if state is not None and (directory.children.get(race_id) or directory.want(state)).state is not State.PARKED:
            state.mailbox.post(message)
