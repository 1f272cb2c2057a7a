"""The primary of those that Sentinels watch: they are asked where it is, again and again.

After a fail-over the old primary goes on taking writes for some 10 s, all of which are lost: so nobody waits until it
refuses. Of Sentinels that do not agree the one counts that knows of the latest fail-over.
https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import attrs
import structlog
import trio

from actors.cache.calls import Command
from actors.cache.connections import PAUSE_MOST_S, Connections, Errors
from actors.core.addresses import RedisAddress
from actors.core.errors import CacheUnavailable

log = structlog.get_logger("redis")

LOOK_S = 1.0
"""A primary that answers is asked after as often."""

ANSWER_S = 0.5
"""Most Sentinels answer within it, or those count that did."""


@attrs.frozen(order=True)
class Primary:
    """What a Sentinel tells; the greatest counts."""

    epoch: int  # of the fail-over that made it the primary
    host: str
    port: int


@attrs.define(eq=False)
class SentinelServers:
    """See Servers. While no Sentinel answers, the primary that was known goes on being asked."""

    address: RedisAddress
    pause_most_s: float = PAUSE_MOST_S
    _sentinels: list[Connections] = attrs.field(init=False)
    _primary: Connections | None = None
    _looks_at: float = 0.0  # trio's clock: not before are the Sentinels asked again
    _looking: trio.Lock = attrs.field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self._sentinels = [Connections(each, self.pause_most_s) for each in self.address.servers]

    async def aclose(self) -> None:
        """See Servers."""
        for each in self._sentinels:
            await each.aclose()
        if self._primary is not None:
            await self._primary.aclose()

    async def homes(self, keys: Collection[str]) -> dict[str, list[str]]:
        """All of them are on the primary."""
        await trio.lowlevel.checkpoint()
        return {"": list(keys)}

    async def ask(self, commands: Sequence[Command], allow: Errors = ()) -> list[Any]:
        """See Servers."""
        primary = await self._current()
        try:
            return await primary.ask(commands, allow)
        except CacheUnavailable:
            self._looks_at = 0.0
            raise

    async def _current(self) -> Connections:
        """Only one caller looks, and others wait for it only where no primary is known."""
        if self._primary is None or (self._is_due() and not self._looking.locked()):
            async with self._looking:
                if self._primary is None or self._is_due():
                    await self._look()
        assert self._primary is not None, "else it raises"
        return self._primary

    def _is_due(self) -> bool:
        return trio.current_time() >= self._looks_at

    async def _look(self) -> None:
        told: list[Primary] = []
        troubles: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + ANSWER_S
            for sentinel in self._sentinels:
                nursery.start_soon(partial(self._hear, sentinel, told, troubles, nursery.cancel_scope))
        self._looks_at = trio.current_time() + LOOK_S
        if told:
            self._use(max(told))
        elif self._primary is None:
            why = "; ".join(sorted(troubles)) or f"none answered within {ANSWER_S:g} s"
            raise CacheUnavailable(f"no Sentinel tells where the primary of {self.address.service!r} is: {why}")

    async def _hear(
        self, sentinel: Connections, told: list[Primary], troubles: list[str], until_most_have: trio.CancelScope
    ) -> None:
        try:
            (reply,) = await sentinel.ask([Command("", ("SENTINEL", "MASTER", self.address.service))])
            told.append(_primary_in(reply))
        except CacheUnavailable as trouble:
            troubles.append(f"{sentinel.address.where}: {trouble}")
        if 2 * len(told) > len(self._sentinels):
            until_most_have.cancel()

    def _use(self, primary: Primary) -> None:
        address = self.address.at(primary.host, primary.port)
        if self._primary is not None:
            if self._primary.address == address:
                return
            self._primary.close()
        log.info("primary", service=self.address.service, host=primary.host, port=primary.port)
        self._primary = Connections(address, self.pause_most_s)


def _primary_in(reply: Sequence[bytes]) -> Primary:
    """Names and values in turn."""
    told = dict(zip(reply[::2], reply[1::2], strict=True))
    return Primary(int(told[b"config-epoch"]), told[b"ip"].decode(), int(told[b"port"]))
