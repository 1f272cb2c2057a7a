"""What a race is made of between crashes: its mailbox, live_positions, dashboards and open window."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import structlog
import trio

from actors.core.fix import Fix
from actors.core.position import position_json
from actors.core.quarantine import Quarantine
from actors.dashboards import events
from actors.dashboards.frames import Frame, Shared
from actors.dashboards.outbox import Outbox
from actors.races.live_positions import LivePositions
from actors.races.mailbox import Mailbox
from actors.races.messages import RaceMessage, Subscribe
from actors.races.shortcut import Shortcut
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
    waits: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # the race waits in it
    window: Window = attrs.field(factory=Window)  # changes not yet sent
    quiet_since: float = 0.0  # trio's clock: the last fix
    restored: bool = False
    complete: bool = True  # False: some store did not answer, ask again
    refused: set[bytes] = attrs.field(factory=set)  # ids that PostgreSQL refused: never live; at most 10 a minute
    handled: int = 0  # messages, for `status`
    # A message taken from the mailbox and not done yet; parts: indexes of its fixes. Where no single fix is at fault,
    # the message is given up.
    quarantine: Quarantine[RaceMessage, int] = attrs.field(factory=Quarantine)
    snapshot: tuple[int, Shared] = (-1, Shared(b""))  # (version of the live_positions, positions joined)
    encoded: dict[str, tuple[Fix, bool, bytes]] = attrs.field(factory=dict)  # participant -> (live fix, stale, JSON)

    def encode(self, fix: Fix, stale: bool) -> bytes:
        """The position as JSON; kept, because the next snapshots will want it too."""
        known = self.encoded.get(fix.participant_id)
        if known is not None and known[0] is fix and known[1] == stale:
            return known[2]
        position = position_json(fix, stale)
        self.encoded[fix.participant_id] = (fix, stale, position)
        return position

    def refuse(self, fixes: Iterable[Fix]) -> None:
        """PostgreSQL refused these for good. Where one may be live, forget what is: the race reads it again from the
        stores, and dashboards get a resync, the only way in which anybody goes back."""
        new = [fix for fix in fixes if fix.id not in self.refused]
        self.refused.update(fix.id for fix in new)
        if any(map(self.live_positions.may_show, new)):
            self.live_positions.clear()
            self.restored = False
            for outbox in self.outboxes:
                outbox.lose(self.race_id)
            self.look_up()

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


def joined_positions(state: RaceState) -> Shared:
    """All live positions as JSON, joined by commas: made once per version of the live_positions."""
    live_positions = state.live_positions
    if state.snapshot[0] != live_positions.version:
        joined = b",".join(
            [state.encode(fix, pid in live_positions.stale) for pid, fix in live_positions.newest.items()]
        )
        state.snapshot = (live_positions.version, Shared(joined))
    return state.snapshot[1]


def snapshot_frame(state: RaceState, now_ms: int, request: Subscribe) -> Frame:
    """The answer to a dashboard that subscribes."""
    positions = joined_positions(state)
    return Frame(*events.snapshot_event(state.race_id, positions, now_ms, request.request_id, request.resync))
