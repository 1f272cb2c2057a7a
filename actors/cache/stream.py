"""A stream in Redis, through which nodes tell each other what is live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from actors.cache.calls import Command
from actors.cache.servers import Servers, servers
from actors.core.addresses import RedisAddress

KEY = "tracking:relay"
KEPT_MS = 10_000
"""Entries are kept so long: who reads later than that reads from the stores."""

PAUSE_MOST_S = 0.2
"""Between tries while Redis is away: nodes are to hear each other again within 1 s."""

READ_MOST = 100  # entries in one answer: each holds what became live in some 10 ms

FIELD = b"e"
START = "0-0"


@attrs.define(eq=False)
class RedisStream:
    """Both calls raise CacheUnavailable, within a second; after trouble for a moment at once, without trying.

    On connections of its own: who waits for entries must not keep anybody from writing.
    """

    address: RedisAddress
    _server: Servers = attrs.field(init=False)
    _newest_ms: int = 0  # of what was read or written, by the clock of Redis

    def __attrs_post_init__(self) -> None:
        self._server = servers(self.address, PAUSE_MOST_S)

    async def append(self, data: bytes) -> None:
        """One entry; what is older than KEPT_MS goes."""
        keep = max(self._newest_ms - KEPT_MS, 0)
        (place,) = await self._ask("XADD", KEY, "MINID", "~", keep, "*", FIELD, data)
        self._newest_ms = max(self._newest_ms, _ms(place))

    async def read(self, after: str, block_s: float) -> tuple[str, Sequence[bytes]]:
        """Entries behind this place, and the place behind them; after "" only the newest place."""
        if not after:
            (newest,) = await self._ask("XREVRANGE", KEY, "+", "-", "COUNT", 1)
            return (newest[0][0].decode() if newest else START), []
        block_ms = round(block_s * 1000)
        (found,) = await self._ask("XREAD", "COUNT", READ_MOST, "BLOCK", block_ms, "STREAMS", KEY, after)
        if not found:
            return after, []
        ((_, entries),) = found
        place = entries[-1][0]
        self._newest_ms = max(self._newest_ms, _ms(place))
        return place.decode(), [fields[FIELD] for _, fields in entries if FIELD in fields]

    async def _ask(self, *words: str | int | bytes) -> list[Any]:
        return await self._server.ask([Command(KEY, words)])

    async def aclose(self) -> None:
        """Close idle connections; those in use end with their calls. Never waits."""
        await self._server.aclose()


def _ms(place: bytes) -> int:
    return int(place.partition(b"-")[0])
