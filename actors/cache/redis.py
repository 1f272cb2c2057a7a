"""Redis, the cache of live positions; no acknowledgement waits for it.

Newest wins inside Redis, in one script, so that several writers cannot put a position back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from uuid import uuid4

import attrs
import msgspec
import structlog
import trio
from redis.exceptions import NoScriptError

from actors.cache.connections import Connections
from actors.cache.redis_script import WRITE, WRITE_SHA
from actors.core.addresses import RedisAddress
from actors.core.fix import Fix
from actors.core.position import position_json, read_position

log = structlog.get_logger("redis")

SCRIPT_ROWS = 500  # positions in one run of the script: a few ms, for which Redis serves nobody else
READ_KEYS = 500  # in one MGET; decoded without giving way to other tasks: some 2 ms
READ_MOST = 5000  # in one hop
MANY_KEYS = 1000  # of one race, beside others
MARK_S = 3600
"""How long the sentinel of a daemon that has ended stays. One that cannot reach Redis for as long fills it again."""

_pack = msgspec.msgpack.Encoder().encode


@attrs.define(eq=False)
class RedisStore:
    """All calls raise CacheUnavailable, within a second; after trouble for a moment at once, without trying."""

    address: RedisAddress
    node_id: str  # two daemons may have the same: it is the name of their host by default
    ttl_s: int
    _sentinel: str = attrs.field(init=False)  # of this run alone
    _mark: str = ""  # of the last write that was answered
    _server: Connections = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._server = Connections(self.address)
        self._sentinel = f"tracking:node:{self.node_id}:{uuid4().hex}"

    async def write(self, changes: Sequence[Fix], forget: Collection[str] = ()) -> bool:
        """Delete what is there of the races to forget; then make these positions the newest where they are greater.
        One hop for all.

        True when all earlier writes of this store are there. False when the cache was emptied, never filled, or went
        back to an older state.
        """
        seen, mark = self._mark, uuid4().hex
        calls: list[list[str | int | bytes]] = []
        for start in range(0, len(changes) or 1, SCRIPT_ROWS):
            if start:
                await trio.lowlevel.checkpoint()
            positions = _packed(changes[start : start + SCRIPT_ROWS])
            gone = _pack([] if start else list(forget))
            calls.append([self.ttl_s, self._sentinel, MARK_S, seen, mark, positions, gone])
        replies = await self._server.ask(
            lambda pipe: [pipe.evalsha(WRITE_SHA, 0, *call) for call in calls], NoScriptError
        )
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # The first write to this server, or it was restarted. Positions written twice change nothing.
            replies = await self._server.ask(lambda pipe: [pipe.eval(WRITE, 0, *call) for call in calls])
        intact = all(replies)
        if changes or forget or not intact:
            self._mark = mark
        return intact

    async def newest(self, race_id: str) -> list[Fix]:
        """The live positions of a race; values that are none are left out."""
        (members,) = await self._server.ask(lambda pipe: pipe.zrange(_seen(race_id), 0, -1))
        found: list[Fix] = []
        for start in range(0, len(members), READ_MOST):
            found += (await self._positions({race_id: members[start : start + READ_MOST]}))[race_id]
        return found

    async def newest_of_races(self, race_ids: Sequence[str]) -> dict[str, list[Fix] | None]:
        """The same by race, of as many of the races as have READ_MOST participants together, and of one at least.

        None for one that has more than MANY_KEYS: ask for it alone.
        """
        members = await self._server.ask(
            lambda pipe: [pipe.zrange(_seen(race_id), 0, MANY_KEYS) for race_id in race_ids]
        )
        found: dict[str, list[Fix] | None] = {}
        some: dict[str, list[bytes]] = {}
        keys = 0
        for race_id, names in zip(race_ids, members, strict=True):
            if len(names) > MANY_KEYS:
                found[race_id] = None
            elif keys + len(names) <= READ_MOST:
                some[race_id] = names
                keys += len(names)
        return found | (await self._positions(some))

    async def _positions(self, members: Mapping[str, Sequence[bytes]]) -> dict[str, list[Fix]]:
        """Of members of the races' sets: some thousand, in one hop."""
        names = [
            (race_id, name) for race_id, some in members.items() for each in some if (name := _text(each)) is not None
        ]
        keys = [f"race:{race_id}:participant:{name}:last" for race_id, name in names]
        chunks = [keys[start : start + READ_KEYS] for start in range(0, len(keys), READ_KEYS)]
        replies = await self._server.ask(lambda pipe: [pipe.mget(chunk) for chunk in chunks]) if chunks else []
        values: list[bytes | None] = [value for reply in replies for value in reply]
        found: dict[str, list[Fix]] = {race_id: [] for race_id in members}
        unreadable = Counter[str]()
        for number, ((race_id, name), value) in enumerate(zip(names, values, strict=True)):
            if number % READ_KEYS == READ_KEYS - 1:
                await trio.lowlevel.checkpoint()
            if value is None:
                continue  # its time to live ran out
            fix = read_position(value, race_id, name)
            if fix is None:
                unreadable[race_id] += 1
            else:
                found[race_id].append(fix)
        for race_id, count in unreadable.items():
            log.warning("values that are no live positions", race_id=race_id, count=count)
        return found

    async def aclose(self) -> None:
        """Close idle connections; those in use end with their calls. Never waits."""
        await self._server.aclose()


def _packed(changes: Sequence[Fix]) -> bytes:
    """For the script: see there."""
    items: list[str] = []
    for fix in changes:
        items += (
            fix.race_id,
            fix.participant_id,
            f"{fix.timestamp_ms:015d}{fix.status}{fix.id.hex()}",
            position_json(fix, stale=None).decode(),
        )
    return _pack(items)


def _seen(race_id: str) -> str:
    return f"race:{race_id}:seen"


def _text(member: bytes) -> str | None:
    """None for what is no UTF-8: not a name of ours."""
    try:
        return member.decode()
    except UnicodeDecodeError:
        return None
