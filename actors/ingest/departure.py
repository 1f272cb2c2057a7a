"""Taking a node out for good: what its session at the broker holds, then the rows on its disk, become durable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import attrs
import structlog
import trio

from actors.ingest.messages import Leave
from actors.ingest.state import ReaderState

log = structlog.get_logger("leave")

LOOK_S = 0.2


class OnDisk(Protocol):
    """The spool."""

    @property
    def rows(self) -> int: ...


@attrs.frozen
class Departed:
    """What came of it."""

    left: bool  # there is no session of ours at the broker
    drained: int  # messages that were taken since it was asked for
    rows_in_spool: int
    why_not: str = ""  # when not left

    @property
    def whole(self) -> bool:
        """Nothing of this node is missing anywhere."""
        return self.left and not self.rows_in_spool


@attrs.define(eq=False)
class Departure:
    """Once for a daemon; who asks again gets the same."""

    state: ReaderState
    tell_reader: Callable[[Leave], None] | None  # None: no session is ours alone
    catch_up: bool  # as of Leaving
    is_over: Callable[[], bool]  # the reader has ended
    spool: OnDisk | None
    patience_s: float  # without any progress
    stop: Callable[[int], None]  # have the daemon drained and ended with this exit code
    _done: Departed | None = None
    _turn: trio.Lock = attrs.field(factory=trio.Lock)

    @asynccontextmanager
    async def whole(self) -> AsyncIterator[Mapping[str, Any]]:
        """For the control socket: gives a Departed as plain JSON values; after the block the daemon ends, with 1 when
        something stayed."""
        came = await self.run()
        try:
            yield attrs.asdict(came)
        finally:
            self.stop(0 if came.whole else 1)

    async def run(self) -> Departed:
        """Takes any time, as long as it goes on."""
        async with self._turn:
            if self._done is None:
                self._done = await self._leave()
        return self._done

    async def _leave(self) -> Departed:
        left, drained, why_not = True, 0, ""
        if self.tell_reader is not None:
            log.info("leaving: unsubscribing, then taking what the session holds")
            self.tell_reader(Leave(self.catch_up))
            ended = await self._as_long_as_it_goes_on(self.is_over, self._progress)
            leaving = self.state.leaving
            left, drained = leaving is not None and leaving.left, leaving.messages if leaving else 0
            if not left:
                why_not = leaving.why_not if leaving else ""
                why_not = why_not or ("stopped" if ended else f"nothing went on for {self.patience_s:g} s")
        if self._rows():
            log.info("leaving: rows of the spool go to PostgreSQL", rows=self._rows())
            await self._as_long_as_it_goes_on(lambda: not self._rows(), self._rows)
        done = Departed(left, drained, self._rows(), why_not)
        if done.whole:
            log.info("left", messages=drained)
        else:
            log.error("not all of this node could leave", **attrs.asdict(done))
        return done

    def _rows(self) -> int:
        return self.spool.rows if self.spool is not None else 0

    def _progress(self) -> Hashable:
        leaving, ledger = self.state.leaving, self.state.ledger
        told = (leaving.messages, leaving.answered) if leaving else ()
        return told, ledger.messages_unacked, ledger.fixes_in_flight

    async def _as_long_as_it_goes_on(self, done: Callable[[], bool], progress: Callable[[], Hashable]) -> bool:
        """Whether it is done; else it has come to a halt."""
        seen, since = progress(), trio.current_time()
        while not done():
            await trio.sleep(LOOK_S)
            now = progress()
            if now != seen:
                seen, since = now, trio.current_time()
            elif trio.current_time() - since >= self.patience_s:
                return False
        return True
