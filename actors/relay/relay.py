"""The relay: the one who writes to the stream between nodes, and reads it.

Owns: its place in the stream, and the number of the next entry. Takes in: frames that races put into its mailbox.
Sends out: entries; what other nodes show to the directory of races, as plain calls.
A stream in Redis, not PUBLISH: in a fail-over of Redis PUBLISH lost half of all messages without an error, a stream
lost what it had not copied yet, and what is lost shows in the numbers. Whatever goes wrong, races are read from the
stores again, PostgreSQL first, until everything is heard: no dashboard goes back, and none stays behind for long.
A crash loses what was on its way, which other nodes see as a gap. Stops when cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import uuid4

import attrs
import structlog
import trio

from actors.core.errors import CacheUnavailable
from actors.races.directory import Directory
from actors.relay.elsewhere import Elsewhere
from actors.relay.entry import AGAIN, BEAT_S, LOOK, Entry, Hearing, Sender, read_entry, write_entry
from actors.relay.frames import read_frame
from actors.relay.mailbox import RelayMailbox
from actors.relay.others import Others
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics

log = structlog.get_logger("relay")

GATHER_S = 0.01
"""What races show within this time goes in one entry."""

SILENCE_S = 3 * BEAT_S
"""Without an own entry that comes back: we do not hear the others either."""

BLOCK_S = 0.5
"""A read waits for an entry at most as long."""

RETRY_S = 0.2


class Stream(Protocol):
    """The stream in Redis. Both calls raise CacheUnavailable, within a second or two."""

    async def append(self, data: bytes) -> None: ...

    async def read(self, after: str, block_s: float) -> tuple[str, Sequence[bytes]]:
        """Entries behind this place, and the place behind them; after "" only the newest place."""
        ...


@attrs.define(eq=False)
class Relay:
    """One of a node."""

    stream: Stream
    mailbox: RelayMailbox
    races: Directory
    health: Health
    metrics: Metrics
    me: Sender
    elsewhere: Elsewhere = attrs.field(init=False)
    others: Others = attrs.field(init=False)
    handled: int = 0  # items of others, for `status`
    _run: str = attrs.field(factory=lambda: uuid4().hex)
    _number: int = 0  # of the last entry
    _hearing: Hearing = attrs.field(factory=lambda: Hearing(SILENCE_S))

    def __attrs_post_init__(self) -> None:
        self.elsewhere = Elsewhere(self.races, self.mailbox)
        self.others = Others(self.me)
        self.health.use("relay")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._read)
            task_status.started()

    async def _write(self) -> None:
        while True:
            with trio.move_on_after(BEAT_S / 2):
                await self.mailbox.wait()
                await trio.sleep(GATHER_S)
            self._number += 1 + self.mailbox.dropped
            self.mailbox.dropped = False
            try:
                await self.stream.append(write_entry(Entry(self._run, self._number, self.mailbox.take(), self.me)))
            except CacheUnavailable as trouble:
                self.mailbox.look_again()  # others will not hear what was in it
                await self._deaf(str(trouble))
                await trio.sleep(RETRY_S)

    async def _read(self) -> None:
        place = ""
        while True:
            try:
                place, found = await self.stream.read(place, BLOCK_S)
            except CacheUnavailable as trouble:
                await self._deaf(str(trouble))
                await trio.sleep(RETRY_S)
                continue
            now = trio.current_time()
            for data in found:
                await self._take(read_entry(data), now)
            silent = self._hearing.forget_silent(now)
            self.others.forget(silent)
            if self._run in silent:
                place = ""  # the stream may have begun anew, by a clock that is behind
                await self._deaf("what this node writes does not come back")

    async def _take(self, entry: Entry | None, now: float) -> None:
        if entry is None:
            return
        complete = self._hearing.hears(entry.run, entry.number, now)
        if entry.run == self._run:
            await self._hear()  # what is missing of others shows in their numbers
            return
        for fault in self.others.faults(entry):
            log.error("another node " + fault, node=entry.sender.node_id)
        if not complete:
            await self._deaf("entries of another node are missing")
        for item in entry.items:
            self.handled += 1
            if item.kind == AGAIN:
                self.elsewhere.read_again(item.race_id)
            elif item.kind == LOOK:
                await self.elsewhere.doubt_all()
            elif (shown := read_frame(item.data, item.race_id)) is not None:
                self.elsewhere.shown(item.race_id, shown)
                await trio.lowlevel.checkpoint()  # a large one takes some ms

    async def _hear(self) -> None:
        self.health.up("relay")
        if self.mailbox.deaf:
            await self.elsewhere.hear_all(True)

    async def _deaf(self, why: str) -> None:
        self.health.down("relay", why)
        if not self.mailbox.deaf:
            self.metrics.relay_gaps.inc()
            await self.elsewhere.hear_all(False)
