"""The stream between nodes, in memory."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from actors.core.errors import CacheUnavailable
from tests.kit.fakes import Closes


@attrs.define(eq=False)
class FakeStream:
    """Of all nodes."""

    entries: list[bytes] = attrs.field(factory=list)
    down: bool = False
    losing: bool = False  # what is appended is nowhere, without an error: a fail-over
    appended: int = 0
    _news: trio.Event = attrs.field(factory=trio.Event)

    async def append(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self.appended += 1
        if not self.losing:
            self.entries.append(data)
            self._news.set()
            self._news = trio.Event()

    def begin_anew(self) -> None:
        """As a Redis does that was emptied, and whose clock is behind: readers hear nothing behind their places."""
        self.entries.clear()

    async def read(self, after: str, block_s: float) -> tuple[str, Sequence[bytes]]:
        await trio.lowlevel.checkpoint()
        self._check()
        if not after:
            return str(len(self.entries)), []
        if len(self.entries) <= int(after):
            with trio.move_on_after(block_s):
                await self._news.wait()
        self._check()
        return str(len(self.entries)), self.entries[int(after) :]

    def _check(self) -> None:
        if self.down:
            raise CacheUnavailable("away")


@attrs.define(eq=False)
class StreamEnd(Closes):
    """One node's way to it, which can be cut."""

    stream: FakeStream
    down: bool = False

    async def append(self, data: bytes) -> None:
        self._check()
        await self.stream.append(data)
        self._check()

    async def read(self, after: str, block_s: float) -> tuple[str, Sequence[bytes]]:
        self._check()
        found = await self.stream.read(after, block_s)
        self._check()
        return found

    def _check(self) -> None:
        self.check_open()
        if self.down:
            raise CacheUnavailable("cut off")
