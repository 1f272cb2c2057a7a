"""What a race is made of between crashes: its mailbox, live_positions, dashboards and open window."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import structlog
import trio

from actors.core.fix import Fix
from actors.core.quarantine import Quarantine
from actors.dashboards.outbox import Outbox
from actors.races.live_positions import LivePositions
from actors.races.mailbox import Mailbox
from actors.races.messages import RaceMessage, Subscribe
from actors.races.shortcut import Shortcut
from actors.races.slices import Slices
from actors.races.window import Window

log = structlog.get_logger("race")


@attrs.define(eq=False)
class RaceState:
    """Owned by the directory, lent to the race actor."""

    race_id: str
    live_positions: LivePositions
    mailbox: Mailbox = attrs.field(factory=Mailbox)
    shortcut: Shortcut = attrs.field(default=attrs.Factory(lambda self: Shortcut(self.mailbox), takes_self=True))
    outboxes: dict[Outbox, None] = attrs.field(factory=dict)  # an ordered set
    asked: dict[Outbox, Subscribe] = attrs.field(factory=dict)  # who waits for a snapshot that is made in turns
    waits: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # the race waits in it
    window: Window = attrs.field(factory=Window)  # changes not yet sent
    quiet_since: float = 0.0  # trio's clock: the last fix
    restored: bool = False
    found: list[tuple[Fix, ...]] = attrs.field(factory=list)  # by the restorer, and not live yet
    complete: bool = True  # False: some store did not answer, ask again
    refused: set[bytes] = attrs.field(factory=set)  # ids that PostgreSQL refused: never live; at most 10 a minute
    handled: int = 0  # messages, for `status`
    # A message taken from the mailbox and not done yet; parts: indexes of its fixes. Where no single fix is at fault,
    # the message is given up.
    quarantine: Quarantine[RaceMessage, int] = attrs.field(factory=Quarantine)
    slices: Slices = attrs.field(factory=Slices)  # of snapshots

    def refuse(self, fixes: Iterable[Fix]) -> bool:
        """PostgreSQL refused these for good. Where one may be live, begin anew, and True."""
        new = [fix for fix in fixes if fix.id not in self.refused]
        self.refused.update(fix.id for fix in new)
        if not any(map(self.live_positions.may_show, new)):
            return False
        self.begin_anew()
        return True

    def begin_anew(self) -> None:
        """Forget what is live: the race reads it again from the stores, and dashboards get a resync, the only way in
        which anybody goes back."""
        self.live_positions.clear()
        self.found.clear()
        self.restored = False
        self.lose_dashboards()
        self.look_up()

    def lose_dashboards(self) -> None:
        """They will have a resync: changes of the race were lost before they became updates."""
        for outbox in self.outboxes:
            outbox.lose(self.race_id)

    def look_up(self) -> None:
        """Have the race do so, if it waits."""
        self.waits.cancel()

    def without_poison(self, fixes: tuple[Fix, ...]) -> tuple[Fix, ...]:
        """Fixes of the message in hand, but for those that crash the race."""
        poisoned = self.quarantine.poisoned
        return tuple(fix for i, fix in enumerate(fixes) if i not in poisoned) if poisoned else fixes

    def after_crash(self) -> RaceMessage | None:
        """Remember what was at fault, before the race runs again. Returns a message that nobody should try again."""
        if not self.quarantine.after_crash():
            return None
        given_up = self.quarantine.held
        log.error("message given up", race=self.race_id, kind=type(given_up).__name__)
        self.message_done()
        return given_up

    def message_done(self) -> None:
        """The one in hand; the next one's fixes have indexes of their own."""
        self.quarantine.done()
        if self.quarantine.poisoned:
            self.quarantine.poisoned = set()

    def take_waiting(self) -> list[RaceMessage]:
        """Everything that the race has not done, the oldest first, but for the message in hand."""
        waiting = [*self.asked.values(), *self.mailbox.take_all()]
        self.asked.clear()
        return waiting
